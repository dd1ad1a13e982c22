import gzip
from pathlib import Path

import pytest

from harness.datasets import records
from harness.datasets.integer_blocks import integer_blocks
from harness.datasets.records import day_of, json_records, literal_records, seconds_of, text_of
from harness.errors import DataError
from tests.harness.datasets.streamed_copies import as_json, as_python_2, streamed, write_gzipped

GAMES: list[dict[str, object]] = [{"id": "70", "text": 'it\'s "fun"\n', "hours": 0.1, "tags": ["a", "b"]}, {"id": "80"}]


@pytest.mark.parametrize("suffix", ["gz", "plain"])
def test_records_are_read_a_line_at_a_time(tmp_path: Path, suffix: str) -> None:
    path = write_gzipped(tmp_path / f"games.{suffix}", as_json(GAMES))
    if suffix == "plain":
        path.write_bytes(gzip.decompress(path.read_bytes()))
    assert list(json_records(streamed(path))) == list(enumerate(GAMES, start=1))


def test_what_python_2_wrote_is_read(tmp_path: Path) -> None:
    lines = as_python_2(GAMES)
    assert lines[1] == "{u'id': u'80'}"
    assert [record for _, record in literal_records(streamed(write_gzipped(tmp_path / "x.gz", lines)))] == GAMES


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = write_gzipped(tmp_path / "x.gz", ['{"id": 1}'] * 5 + ["broken"])
    reading = json_records(streamed(path))
    assert [next(reading)[0] for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(DataError, match="line 6"):
        next(reading)


@pytest.mark.parametrize(
    "line",
    [
        "{'id': __import__('os').getcwd()}",
        "{'id': 1 if True else 2}",
        "[1, 2]",
        "{'id': ",
        "(" * 5000,
        "-" * 100_000 + "1",
        "{'id': \x00}",
        "{[1]: 2}",
        "{{}, 1}",
        "{'id': " + "7" * 5000 + "}",
        "",
    ],
)
def test_a_line_that_is_no_dictionary_is_refused_and_never_run(tmp_path: Path, line: str) -> None:
    file = streamed(write_gzipped(tmp_path / "x.gz", ["{'id': 1}", line]))
    with pytest.raises(DataError, match=r"x\.gz: line 2: not a dictionary as Python writes it") as error:
        list(literal_records(file))
    assert len(str(error.value)) < 200


def test_a_line_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LINE_BYTES", 64)
    file = streamed(write_gzipped(tmp_path / "x.gz", ['{"id": 1}', '{"id": "' + "x" * 80 + '"}']))
    with pytest.raises(DataError, match=r"line 2: longer than 64 bytes"):
        list(json_records(file))


def test_a_file_cut_short_is_told(tmp_path: Path) -> None:
    path = write_gzipped(tmp_path / "x.gz", [f'{{"id": "{number * 7919}"}}' for number in range(2000)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"x\.gz: cannot be read after line [\d,]+ \(.*\); get it again"):
        list(json_records(streamed(path)))


@pytest.mark.parametrize(
    ("read", "record", "message"),
    [
        (text_of, {}, "key is None, a text expected"),
        (text_of, {"key": ""}, "key is '', a text expected"),
        (text_of, {"key": 3}, "key is 3, a text expected"),
        (seconds_of, {"key": "1"}, "key is '1', seconds since 1970 expected"),
        (seconds_of, {"key": True}, "key is True, seconds"),
        (seconds_of, {"key": 1 << 50}, "seconds since 1970 expected"),
        (day_of, {"key": "Nov 3"}, "key is 'Nov 3', a day as 2017-12-31 expected"),
        (day_of, {}, "key is None, a day"),
    ],
)
def test_a_missing_value_is_named(tmp_path: Path, read: object, record: dict[str, object], message: str) -> None:
    assert callable(read)
    with pytest.raises(DataError, match=f"x: line 7: .*{message}"):
        read(streamed(tmp_path / "x"), 7, record, "key")


def test_days_count_up() -> None:
    file = streamed(Path("x"))
    assert day_of(file, 1, {"key": "2018-01-01"}, "key") - day_of(file, 1, {"key": "2017-12-30"}, "key") == 2


def test_integers_come_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.datasets.integer_blocks.BLOCK_BYTES", 200)
    path = tmp_path / "x.txt"
    path.write_text("".join(f"{row}\t{row * row}\t-1\n" for row in range(500)))
    blocks = list(integer_blocks(streamed(path), ("row", "square", "minus")))
    assert len(blocks) > 10
    assert [value for block in blocks for value in block["square"].tolist()] == [row * row for row in range(500)]


@pytest.mark.parametrize("text", ["1\t2\t3\n4\t5\n", "1\t2\tx\n", "1\t2\t\n", ""])
def test_what_is_no_integer_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(DataError, match=r"x\.txt: cannot be read as 3 integers a line") as error:
        list(integer_blocks(streamed(tmp_path / "x.txt"), ("a", "b", "c")))
    assert "\n" not in str(error.value)
