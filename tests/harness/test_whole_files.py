from __future__ import annotations

from pathlib import Path

import pytest

from harness.whole_files import whole_file


def test_a_file_appears_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.name.startswith(".table.md.")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("reason", [OSError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, reason: type[BaseException]) -> None:
    path = tmp_path / "table.md"
    path.write_text("old")
    with pytest.raises(reason), whole_file(path) as partial:
        partial.write_text("ne")
        raise reason
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_with_one_process_number_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    with whole_file(path) as one, whole_file(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
