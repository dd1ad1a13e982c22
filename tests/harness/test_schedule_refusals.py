"""What cannot be used is told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from tests.harness.small_table import small_next_item


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "A", "method": "lst_item"}, r"unknown method 'lst_item'; did you mean 'last_item'\?"),
        ({"name": "A", "method": "lacks_scores"}, "lacks optimizer, rank_scores of its interface"),
        ({"name": "A", "method": "last_item", "parameters": {"sise": 2}}, "unknown parameter 'sise'"),
        ({"name": "A", "method": "last_item", "parameters": {"size": 0}}, "size = 0: .*greater than 0"),
        (
            {"name": "A", "method": "sleeps", "parameters": {"seconds": -1}},
            "seconds = -1: .*equal to 0",
        ),
    ],
)
@pytest.mark.parametrize("selection", ["published", "tuned"])
def test_rows_that_cannot_run(row: dict[str, Any], message: str, selection: Any, tmp_path: Path) -> None:
    table = small_next_item(tmp_path, rows=[row])
    published = [{"datasets": ["*"], "source": "s"}]
    table.add_method("sleeps", "tests.doubles:Sleeps", published=published)
    table.add_method("lacks_scores", "tests.doubles:LacksScores", published=published)
    with pytest.raises(InputError, match=rf"^rows\.A: .*{message}"):
        table.schedule(selection=selection)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"sise": {"choices": [1, 2]}}, r"unknown parameter 'sise'; did you mean 'size'\?"),
        ({"size": {"low": 0, "high": 8}}, "size = 0: .*greater than 0"),
        ({"dropout": {"low": 0.0, "high": 1.0}}, r"dropout = 1.0: .*less than 1"),
        ({"size": {"low": 1.0, "high": 8.0}}, r"size = 3\.67.*: .*integer"),
        ({"size": {"choices": [4, "8"]}}, "size = '8': a whole number is expected"),
    ],
)
def test_search_spaces_that_the_method_cannot_take(space: dict[str, Any], message: str, tmp_path: Path) -> None:
    one_row = small_next_item(tmp_path)
    one_row.add_method("last_item", "tests.doubles:LastItem", space=space)
    with pytest.raises(InputError, match=message):
        one_row.schedule()
