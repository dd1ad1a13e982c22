from pathlib import Path

import numpy as np
import pytest

from harness.datasets.cikm import ROWS as EVENTS
from harness.datasets.large.formats import MISSING, ColumnFormat, LineFormat, narrow
from harness.datasets.large.reading import byte_ranges, check_header, read_range, whole_lines
from harness.datasets.taobao import ADS, ROWS, USERS
from harness.errors import DataError


def test_the_official_lines_are_read() -> None:
    rows = ROWS.read(b"581738,1494137644,1,430548_1007,1,0\n2,1494137645,7,430539_1007,0,1\n")
    assert {name: values.tolist() for name, values in rows.columns.items()} == {
        "user": [581738, 2],
        "time_stamp": [1494137644, 1494137645],
        "adgroup_id": [1, 7],
        "pid": [0, 1],
        "clk": [0, 1],
    }
    assert rows.words == {"pid": ("430548_1007", "430539_1007")}
    ads = ADS.lines.read(b"63133,6406,83237,1,95471,170.0\n1,2,3,4,NULL,0.01\n")
    assert ads.columns["brand"].tolist() == [95471, MISSING] and ads.columns["price"].tolist() == [170.0, 0.01]
    users = USERS.lines.read(b"234,0,5,2,5,,3,0,3\n")
    assert users.columns["pvalue_level"].tolist() == [MISSING] and users.columns["age_level"].tolist() == [5]
    events = EVENTS.read(b"1,2,pv,30\n1,2,buy,31\n")
    assert [events.words["behavior"][code] for code in events.columns["behavior"]] == ["pv", "buy"]


@pytest.mark.parametrize(
    "line",
    [
        b"1,2,3,4_5,1",
        b"1,2,3,4_5,1,0,0",
        b"",
        b"1,2,,4_5,1,0",
        b" 1,2,3,4_5,1,0",
        b"+1,2,3,4_5,1,0",
        b"-1,2,3,4_5,1,0",
        b"1.0,2,3,4_5,1,0",
        b"x,2,3,4_5,1,0",
        b"1,2,3,45,1,0",
        b"1,2,3,4_5,1,2",
        b"1,2,3,4_5,1,NULL",
        b"1234567890123456789,2,3,4_5,1,0",
        b'"1",2,3,4_5,1,0',
        b"\xff,2,3,4_5,1,0",
    ],
)
def test_a_malformed_line_is_left_out_whatever_stands_around_it(line: bytes) -> None:
    good = [b"%d,2,3,4_5,1,0" % number for number in range(5)]
    alone = ROWS.read(line + b"\n")
    assert (alone.lines, alone.malformed, len(alone.columns["user"])) == (1, 1, 0)
    among = ROWS.read(b"\n".join([*good[:2], line, *good[2:]]) + b"\n")
    assert (among.lines, among.malformed, among.columns["user"].tolist()) == (6, 1, [0, 1, 2, 3, 4])
    assert [one.line for one in among.shown] == [2]


@pytest.mark.parametrize("price", [b"1.", b".5", b"1e5", b"nan", b"1.5.2", b"-1"])
def test_prices_that_are_none(price: bytes) -> None:
    assert ADS.lines.read(b"1,2,3,4,5," + price + b"\n").malformed == 1


@pytest.mark.parametrize("user", [b"007", b"0", b"000000000000000000000000012", b"999999999999999999"])
def test_integers_that_are_read_alike_with_and_without_a_malformed_neighbour(user: bytes) -> None:
    line = user + b",2,3,4_5,1,0\n"
    alone, beside = ROWS.read(line), ROWS.read(line + b"bad\n")
    assert alone.malformed == 0 and beside.malformed == 1
    assert alone.columns["user"].tolist() == beside.columns["user"].tolist() == [int(user)]


def test_line_ends_of_windows_and_a_last_line_without_one() -> None:
    rows = ROWS.read(b"1,2,3,4_5,1,0\r\n2,2,3,4_5,1,0")
    assert rows.columns["user"].tolist() == [1, 2] and rows.malformed == 0


@pytest.mark.parametrize(
    ("largest", "expected"), [(0, np.int8), (127, np.int8), (128, np.int16), (70_000, np.int32), (2**31, np.int64)]
)
def test_integers_are_kept_narrow(largest: int, expected: type) -> None:
    narrowed = narrow(np.array([0, largest]))
    assert narrowed.dtype == expected and narrowed.tolist() == [0, largest]


@pytest.mark.parametrize("block_bytes", [1, 2, 7, 16, 33, 1000])
def test_ranges_hold_every_line_once(tmp_path: Path, block_bytes: int) -> None:
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (number, number**3) for number in range(40)) + b"40,5"
    path = tmp_path / "lines.csv"
    path.write_bytes(text)
    ranges = byte_ranges(path, block_bytes)
    assert b"".join(whole_lines(where) for where in ranges) == text
    lines = LineFormat("lines.csv", (ColumnFormat("a"), ColumnFormat("b")), header="a,b")
    read = [read_range(where, lines).columns["a"] for where in ranges]
    assert np.concatenate(read).tolist() == list(range(41))


def test_a_header_s_last_blank_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "user_profile.csv"
    for header in (USERS.lines.header, USERS.lines.header.rstrip()):
        path.write_text(header + "\n1,0,5,2,5,,3,0,3\n")
        check_header(path, USERS.lines)
    path.write_text("1,0,5,2,5,,3,0,3\n")
    with pytest.raises(DataError, match=r"user_profile.csv: line 1: not the expected header \(userid,cms_segid"):
        check_header(path, USERS.lines)
    with pytest.raises(DataError, match="No such file"):
        byte_ranges(tmp_path / "nowhere.csv", 10)
