"""Steam, Amazon's reviews and Yahoo! R1, on small files in their formats."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import amazon_2018, catalog, item_text, steam, yahoo_music
from harness.datasets.amazon_2014_reviews import COUNTS
from harness.datasets.encoder import Encoded
from harness.datasets.prepared import PreparedDataset
from harness.datasets.writing import Contents, Table, read_table, row_hash
from harness.errors import DataError, InputError
from tests.harness.datasets.streamed_copies import as_json, as_python_2, streamed, write_gzipped

Review = tuple[str, str, int]

AUTOMOTIVE, PHONES = amazon_2018.category("automotive"), amazon_2018.category("phones")


@pytest.fixture(autouse=True)
def no_raw_data_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)


def reviews(users: int, items: int, each: int, prefix: str = "") -> list[Review]:
    """Every user reviews `each` items in turn, so that all items are equally frequent; the last come first."""
    return [
        (f"{prefix}user{user}", f"{prefix}item{(user + turn) % items:03d}", user * 100 + turn)
        for user in range(users)
        for turn in reversed(range(each))
    ]


def steam_lines(rows: list[Review]) -> list[str]:
    first = date(2017, 12, 30)
    return as_python_2(
        {"username": user, "product_id": item, "date": (first + timedelta(time)).isoformat(), "text": "it's 'so' so"}
        for user, item, time in rows
    )


def amazon_lines(rows: list[Review]) -> list[str]:
    return as_json(
        {"overall": 5.0, "reviewerID": user, "asin": item, "unixReviewTime": time, "reviewText": "Fine."}
        for user, item, time in rows
    )


def examples(contents: Contents) -> list[list[int]]:
    """All histories with their targets, of all splits."""
    return [
        [*history[:length], target]
        for table in contents.tables.values()
        for history, length, target in zip(*(table[name].tolist() for name in table), strict=True)
    ]


def prepared_with(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, int] | None = None
) -> PreparedDataset:
    """Prepare a dataset of the catalog from small files, whose counts are these."""
    small = replace(catalog.find(name), facts=facts or {})
    monkeypatch.setattr(catalog, "_datasets", lambda: {name: small})
    return catalog.prepare(name, root)


def tables_of(dataset: PreparedDataset) -> dict[str, Table]:
    return {split: read_table(dataset.folder / f"{split}.parquet") for split in dataset.schema.splits}


def test_steam_leaves_out_users_and_games_with_fewer_than_20_reviews(tmp_path: Path) -> None:
    rows = reviews(users=30, items=25, each=22) + reviews(users=30, items=40, each=19, prefix="x")
    path = write_gzipped(tmp_path / steam.REVIEWS, steam_lines(rows))
    contents = steam.parse({steam.REVIEWS: streamed(path)})
    assert (contents.users, contents.items) == (30, 25)
    assert contents.facts["reviews"] == len(rows)
    assert contents.facts["reviewers"] == 60
    assert {split: known.rows for split, known in contents.splits.items()} == {"train": 24, "validation": 3, "test": 3}
    expected = [[(user + turn) % 25 + 1 for turn in range(11, 22)] for user in range(30)]
    assert sorted(examples(contents)) == sorted(expected)


def test_a_longer_history_of_steam_goes_further_back(tmp_path: Path) -> None:
    path = write_gzipped(tmp_path / steam.REVIEWS, steam_lines(reviews(users=30, items=25, each=22)))
    contents = steam.parse({steam.REVIEWS: streamed(path)}, history_length=20)
    expected = [[(user + turn) % 25 + 1 for turn in range(1, 22)] for user in range(30)]
    assert sorted(examples(contents)) == sorted(expected)
    assert contents.history_length == 20


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{u'username': u'a', u'product_id': u'7'}", r"line 2: date is None, a day as 2017-12-31 expected"),
        ("{u'username': u'', u'product_id': u'7', u'date': u'2017-01-01'}", r"line 2: username is '', a text expected"),
        ("{u'username': open('x')}", r"line 2: not a dictionary as Python writes it"),
    ],
)
def test_a_bad_review_of_steam_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write_gzipped(tmp_path / steam.REVIEWS, [*steam_lines([("a", "1", 1)]), line])
    with pytest.raises(DataError, match=rf"steam_reviews\.json\.gz: {message}"):
        steam.parse({steam.REVIEWS: streamed(path)})


def test_games_are_described_where_their_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "raw/steam"
    write_gzipped(folder / steam.REVIEWS, steam_lines(reviews(users=30, items=21, each=20)))
    tags: dict[str, object] = {"id": "item001", "app_name": "Half\nLife|", "publisher": "Valve", "genres": ["Action"]}
    write_gzipped(folder / steam.GAMES, as_python_2([{**tags, "tags": ["Action", "FPS"]}, {"app_name": "no id"}]))
    dataset = prepared_with("steam", tmp_path, monkeypatch)
    monkeypatch.setattr(
        item_text, "encode", lambda sentences, name, pooling: Encoded(np.ones((len(sentences), 2)), str(sentences))
    )
    text = item_text.item_text(dataset, "minilm", "descriptions")
    assert text.value.shape == (21, 2)
    assert "['Half Life. Valve, Action, FPS']"[:8] in text.note
    assert item_text.item_attributes(dataset).value[1].tolist() == [3, 1, 2]


def test_without_the_games_file_text_is_missing_and_the_hash_is_that_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gzipped(tmp_path / "raw/steam" / steam.REVIEWS, steam_lines(reviews(users=30, items=21, each=20)))
    dataset = prepared_with("steam", tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"steam: nothing is known of its items' text; use a method that needs none"):
        item_text.item_text(dataset, "minilm", "descriptions")
    write_gzipped(path.with_name(steam.GAMES), as_python_2([{"id": "item001", "app_name": "Half Life"}]))
    assert row_hash(tables_of(dataset)) == dataset.hash
    described = catalog.prepare("steam", tmp_path)
    assert row_hash(tables_of(described)) == dataset.hash != described.hash
    assert len(catalog.open_dataset("steam", tmp_path).schema.inputs) == 2


def test_counts_other_than_the_known_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gzipped(tmp_path / "raw/steam" / steam.REVIEWS, steam_lines(reviews(users=30, items=21, each=20)))
    with pytest.raises(DataError, match=r"steam: reviews: 600, 601 expected; steam_reviews\.json\.gz differ"):
        prepared_with("steam", tmp_path, monkeypatch, {"reviews": 601})


def test_amazon_2018_leaves_out_rare_items_then_short_sequences(tmp_path: Path) -> None:
    frequent = reviews(users=40, items=10, each=6)  # 24 of each item
    rare = [("user0", "rare", 1000), ("lone", "item001", 5), ("lone", "rare", 6)]
    path = write_gzipped(tmp_path / AUTOMOTIVE.reviews, amazon_lines(frequent + rare))
    contents = amazon_2018.parse({AUTOMOTIVE.reviews: streamed(path)}, names=("automotive",))
    assert (contents.users, contents.items) == (40, 10)
    assert contents.facts == {"reviews": 243, "reviewers": 41, "interactions": 240, "items_that_occur": 10}
    assert sorted(examples(contents)) == sorted([(user + turn) % 10 + 1 for turn in range(6)] for user in range(40))


def test_categories_together_keep_their_items_apart(tmp_path: Path) -> None:
    files = {}
    for name, own in (("automotive", AUTOMOTIVE), ("phones", PHONES)):
        rows = reviews(users=40, items=10, each=6, prefix=name)
        files[own.reviews] = streamed(write_gzipped(tmp_path / own.reviews, amazon_lines(rows)))
        products: list[dict[str, object]] = [
            {"asin": f"{name}item003", "title": "A title", "brand": "", "category": []}
        ]
        files[own.products] = streamed(write_gzipped(tmp_path / own.products, as_json(products)))
    contents = amazon_2018.parse(files, names=("automotive", "phones"))
    assert (contents.users, contents.items, contents.facts["reviews"]) == (80, 20, 480)
    assert [one.title for one in contents.described_items] == (["", "", "", "A title"] + [""] * 6) * 2
    kinds = {tuple(sorted({(item - 1) // 10 for item in row})) for row in examples(contents)}
    assert kinds == {(0,), (1,)}
    assert [known.rows for known in contents.splits.values()] == [64, 8, 8]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_each_scale_of_pretraining_is_its_categories_splits_one_after_the_other(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figure 4 of PreferDiff: AP, APT, APTI and APTIF."""
    names = ("automotive", "phones", "tools", "instruments", "food")[:count]
    for name in names:
        own, users = amazon_2018.category(name), 40 + 10 * len(name)
        rows = reviews(users=users, items=10, each=6, prefix=name)
        write_gzipped(tmp_path / "raw/amazon-2018" / own.reviews, amazon_lines(rows))
        products: list[dict[str, object]] = [{"asin": f"{name}item003", "title": name, "brand": "", "category": []}]
        write_gzipped(tmp_path / "raw/amazon-2018" / own.products, as_json(products))
    singles, entries = [], catalog._datasets()
    for name in names:
        singles.append(prepared_with(f"amazon-2018-{name}", tmp_path, monkeypatch))
        monkeypatch.setattr(catalog, "_datasets", lambda: entries)
    together = "pretraining" if count == 5 else "-".join(names)
    dataset = prepared_with(f"amazon-2018-{together}", tmp_path, monkeypatch)
    assert (dataset.schema.items, dataset.schema.users) == (10 * count, sum(one.schema.users for one in singles))
    for split, table in tables_of(dataset).items():
        own_tables = [tables_of(one)[split] for one in singles]
        expected = np.concatenate([one["target"] + 10 * place for place, one in enumerate(own_tables)])
        assert table["target"].tolist() == expected.tolist()
        shifted = [np.where(one["history"] > 0, one["history"] + 10 * at, 0) for at, one in enumerate(own_tables)]
        assert table["history"].tolist() == np.concatenate(shifted).tolist()
    written = (dataset.folder / "item_text.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[1] for line in written[4::10]] == list(names)
    assert item_text.item_domains(dataset).value.tolist() == [at for at in range(count) for _ in range(10)]
    assert not any(item_text.item_domains(one).value.any() for one in singles)


def test_products_of_2018_are_described(tmp_path: Path) -> None:
    rows = reviews(users=40, items=10, each=6)
    products: list[dict[str, object]] = [
        {
            "asin": "item000",
            "title": "Oil &amp; filter",
            "brand": "Fram",
            "category": ["Automotive", "Filters", "Fram"],
        },
        {"asin": "item001", "title": "var aPageStart = (new Date()).getTime();", "brand": "\n", "category": ["Tires"]},
        {"asin": "unknown", "title": "elsewhere"},
    ]
    files = {
        AUTOMOTIVE.reviews: streamed(write_gzipped(tmp_path / AUTOMOTIVE.reviews, amazon_lines(rows))),
        AUTOMOTIVE.products: streamed(write_gzipped(tmp_path / AUTOMOTIVE.products, as_json(products))),
    }
    described = amazon_2018.parse(files, names=("automotive",)).described_items
    assert (described[0].title, described[0].attributes) == ("Oil &amp; filter", ("Fram", "Automotive", "Filters"))
    assert (described[1].title, described[1].attributes) == ("", ("Tires",))
    assert (described[2].title, described[2].attributes) == ("", ())


def test_other_text_of_the_same_rows_is_another_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, folder = amazon_2018.category("instruments"), tmp_path / "raw/amazon-2018"
    write_gzipped(folder / own.reviews, amazon_lines(reviews(users=40, items=10, each=6)))
    hashes = [prepared_with("amazon-2018-instruments", tmp_path, monkeypatch).hash]
    for title in ("Strings", "Drums"):
        write_gzipped(folder / own.products, as_json([{"asin": "item003", "title": title}]))
        hashes.append(catalog.prepare("amazon-2018-instruments", tmp_path).hash)
        assert catalog.verify("amazon-2018-instruments", tmp_path) == []
    assert len(set(hashes)) == 3


def test_a_title_that_utf_8_cannot_hold_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, folder = amazon_2018.category("instruments"), tmp_path / "raw/amazon-2018"
    write_gzipped(folder / own.reviews, amazon_lines(reviews(users=40, items=10, each=6)))
    products = ['{"asin": "item003", "title": "Guitar \\ud83d", "brand": "\\ude00"}', '{"asin": ["item004"]}']
    write_gzipped(folder / own.products, products)
    dataset = prepared_with("amazon-2018-instruments", tmp_path, monkeypatch)
    written = (dataset.folder / "item_text.csv").read_text(encoding="utf-8").splitlines()
    assert written[4] == "4,Guitar \ufffd,\ufffd,1,"


def test_pretraining_needs_the_files_of_all_its_categories(tmp_path: Path) -> None:
    write_gzipped(tmp_path / "raw/amazon-2018" / AUTOMOTIVE.reviews, amazon_lines(reviews(40, 10, 6)))
    with pytest.raises(DataError, match=r"Cell_Phones_and_Accessories_5\.json\.gz: missing; .* belong together"):
        catalog.prepare("amazon-2018-pretraining", tmp_path)


def test_the_pretraining_counts_add_up() -> None:
    facts = catalog.find("amazon-2018-pretraining").facts
    assert facts["reviewers"] == 746_688  # PreferDiff Table 5
    assert facts["reviews"] == sum(amazon_2018.REVIEWS[name] for name in amazon_2018.PRETRAINING)


def test_the_counts_of_each_scale_add_up() -> None:
    """Figure 4 of PreferDiff, counted by its Table 10."""
    expected = {
        "automotive-phones": 193_651 + 157_212,
        "automotive-phones-tools": 193_651 + 157_212 + 240_799,
        "automotive-phones-tools-instruments": 193_651 + 157_212 + 240_799 + 27_530,
    }
    for name, reviewers in expected.items():
        dataset = catalog.find(f"amazon-2018-{name}")
        assert dataset.facts["reviewers"] == reviewers
        assert dataset.facts["reviews"] == sum(amazon_2018.REVIEWS[one] for one in name.split("-"))
        assert len(dataset.layouts[0]) == 2 * len(dataset.layouts[1]) == 2 * len(name.split("-"))


def test_leave_one_out_from_the_reviews_of_2014(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "raw/amazon-2014/Musical_Instruments"
    write_gzipped(folder / "reviews_Musical_Instruments_5.json.gz", amazon_lines(reviews(users=20, items=10, each=6)))
    product: dict[str, object] = {"asin": "item002", "title": "Strings", "categories": [["Music", "Guitar"]]}
    write_gzipped(folder / "meta_Musical_Instruments.json.gz", as_python_2([product]))
    dataset = prepared_with("amazon-instruments-leave-one-out", tmp_path, monkeypatch, {"users": 20, "items": 10})
    table = read_table(dataset.folder / "test.parquet")
    rows = zip(table["history"].tolist(), table["target"].tolist(), strict=True)
    expected = [([(u + turn) % 10 + 1 for turn in range(5)] + [0] * 5, (u + 5) % 10 + 1) for u in range(20)]
    assert list(rows) == expected
    assert dataset.schema.facts["interactions"] == 120
    assert "3,Strings,Music|Guitar,2 1," in (dataset.folder / "item_text.csv").read_text()


def test_the_smaller_categories_have_one_user_and_item_less_than_table_7_prints() -> None:
    printed = {"automotive": (2_929, 20_473), "instruments": (1_430, 10_261), "office": (4_906, 53_258)}
    assert {name: (users + 1, rows) for name, (_, users, _, rows) in COUNTS.items()} == printed


def yahoo_files(folder: Path, lines: list[str], names: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / yahoo_music.RATINGS).write_text("".join(f"{line}\n" for line in lines))
    if names is not None:
        (folder / yahoo_music.NAMES).write_bytes(names.encode("cp1252"))
    return folder


def yahoo_lines(users: int, artists: int, each: int) -> list[str]:
    return [
        f"{user}\t{1000 + (user + turn) % artists}\t{255 if turn else 90}"
        for user in range(1, users + 1)
        for turn in range(each)
    ]


def test_yahoo_draws_users_and_keeps_the_files_order(tmp_path: Path) -> None:
    lines = yahoo_lines(users=60, artists=30, each=25)
    lines += [f"61\t{2000 + turn}\t1" for turn in range(30)]  # rare artists: a user without any rating left
    lines += [f"62\t{1000 + turn}\t1" for turn in range(19)]  # a rare user
    lines += ["63\t-99\t50"] * 25  # artists that are none
    folder = yahoo_files(tmp_path, lines)
    contents = yahoo_music.parse({yahoo_music.RATINGS: streamed(folder / yahoo_music.RATINGS)}, users=60)
    assert contents.facts["ratings"] == len(lines)
    found = [[1000 + item - 1 for item in row] for row in examples(contents)]
    every = {tuple(1000 + (user + turn) % 30 for turn in range(14, 25)) for user in range(1, 61)}
    assert {tuple(row) for row in found} <= every
    assert len(found) == contents.users in {59, 60}  # user 61 may have been drawn, and has nothing left
    assert contents.items == 30


def test_yahoo_draws_as_many_users_as_asked_and_the_same_again(tmp_path: Path) -> None:
    folder = yahoo_files(tmp_path, yahoo_lines(users=60, artists=30, each=25))
    files = {yahoo_music.RATINGS: streamed(folder / yahoo_music.RATINGS)}
    first, again = (yahoo_music.parse(files, users=20) for _ in range(2))
    assert first.users == 20
    assert examples(first) == examples(again)
    assert len({tuple(row) for row in examples(first)}) > 10


def test_yahoos_artists_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "-100\tNot Applicable\n1000\tBeyoncé\n1029\tThe  Who\n\nodd line\n²\tSquare\n--7\tMinus\n"
    names += f"{'7' * 5000}\tLong\n"
    folder = yahoo_files(tmp_path / "raw/yahoo-r1", yahoo_lines(users=60, artists=30, each=25), names)
    assert (folder / yahoo_music.NAMES).exists()
    dataset = prepared_with("yahoo-r1", tmp_path, monkeypatch)
    written = (dataset.folder / "item_text.csv").read_text(encoding="utf-8").splitlines()
    assert written[1] == "1,Beyoncé,,,"
    assert written[30] == "30,The Who,,,"


@pytest.mark.parametrize(
    ("line", "message"),
    [("1\t2", "cannot be read as 3 integers a line"), ("x\t2\t3", "cannot be read"), ("-1\t2\t3", "user -1; the file")],
)
def test_a_bad_rating_of_yahoo_is_told(tmp_path: Path, line: str, message: str) -> None:
    folder = yahoo_files(tmp_path, [*yahoo_lines(2, 5, 2), line])
    with pytest.raises(DataError, match=rf"user-artist-ratings-v1_0\.txt: .*{message}"):
        yahoo_music.parse({yahoo_music.RATINGS: streamed(folder / yahoo_music.RATINGS)})


@pytest.mark.parametrize("name", ["steam", "yahoo-r1", "amazon-2018-movies", "amazon-office-leave-one-out"])
def test_what_is_missing_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name}: no raw files; put .* into {tmp_path}/raw/"):
        catalog.prepare(name, tmp_path)
    assert catalog.status(name, tmp_path) == "missing"


@pytest.mark.parametrize("break_file", [lambda path: path.write_bytes(b"\x1f\x8bbroken"), lambda path: path.chmod(0)])
def test_a_broken_file_leaves_nothing_behind(
    break_file: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gzipped(tmp_path / "raw/steam" / steam.REVIEWS, steam_lines(reviews(3, 3, 3)))
    break_file(path)
    with pytest.raises(DataError):
        prepared_with("steam", tmp_path, monkeypatch, {"reviews": 1})
    assert not (tmp_path / "prepared/steam").exists()
