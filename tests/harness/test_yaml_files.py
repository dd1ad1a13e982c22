from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.specs import Method
from harness.table_specs import TableSpec
from harness.yaml_files import load_yaml, parse_yaml, validated

METHOD: dict[str, Any] = {"name": "m", "title": "M", "class": "a.b:C", "version": 1}
TABLE: dict[str, Any] = {
    "title": "T",
    "paper": "P",
    "kind": "cells",
    "task": "next_item",
    "datasets": ["d"],
    "metrics": ["recall@5"],
    "seeds": [0],
    "rows": [{"name": "A", "method": "m"}],
}


def problem_of(content: Any, model: Any = Method) -> str:
    with pytest.raises(InputError) as caught:
        validated(content, model, "file.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("file.yaml: ")
    return message.removeprefix("file.yaml: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E5", 1e5), ("-2e+4", -2e4), ("1.5e3", 1500.0), ("1.5", 1.5), ("0.001", 0.001)],
)
def test_numbers_with_an_exponent_are_floats(text: str, value: float) -> None:
    parsed = parse_yaml(f"a: {text}", "f")["a"]
    assert type(parsed) is float
    assert parsed == value


@pytest.mark.parametrize("text", ["e3", "1e", "1e3x", "v1e3", "'1e-3'", "1e-", "x1", "2024_beta"])
def test_words_that_only_resemble_numbers_stay_words(text: str) -> None:
    assert parse_yaml(f"a: {text}", "f")["a"] == text.strip("'")


def test_integers_stay_integers() -> None:
    assert [type(value) for value in parse_yaml("[1, 20, -3, 1_000]", "f")] == [int] * 4


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", 3),
        ("x:\n  k: 1\n  k: 1\n", 3),
        ("- {k: 1}\n- {k: 1, j: 2, k: 3}\n", 2),
        ("1: a\n1: b\n", 2),
    ],
)
def test_a_duplicate_key_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(InputError, match=rf"^table\.yaml, line {line}: duplicate key .*; keep one of them$"):
        parse_yaml(text, "table.yaml")


def test_equal_keys_of_different_mappings_are_fine() -> None:
    assert parse_yaml("- {k: 1}\n- {k: 2}\n", "f") == [{"k": 1}, {"k": 2}]


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: b: c",
        "\ta: 1",
        "a: \x00",
        "? [a]\n: b",
        "{a: 1}: b",
        "a: 2024-13-45",
        "a: !!int x",
        "- 1\n---\n- 2",
        "a: *unknown",
        "[" * 1000,
        "a: !!python/object/apply:os.getcwd []",
    ],
)
def test_what_is_not_plain_yaml_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^f\.yaml(, line \d+)?: ") as caught:
        parse_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)


def test_the_line_of_a_syntax_error_is_named() -> None:
    with pytest.raises(InputError, match="line 3"):
        parse_yaml("a: 1\nb: 2\nc: d: e\n", "f.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("title: Gr\xfc\xdfe".encode("latin-1"))
    (tmp_path / "folder.yaml").mkdir()
    for name in ("missing.yaml", "latin.yaml", "folder.yaml"):
        with pytest.raises(InputError, match=rf"{name}: cannot be read"):
            load_yaml(tmp_path / name, Method)


def test_a_file_becomes_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "name: m\ntitle: Größe\nclass: a.b:C\nversion: 2\nspace: {rate: {low: 1e-4, high: 1e-1, log: true}}", "utf-8"
    )
    method = load_yaml(path, Method)
    assert (method.title, method.class_path, method.version) == ("Größe", "a.b:C", 2)
    assert method.space["rate"].model_dump() == {"low": 1e-4, "high": 0.1, "log": True}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"clas": "a:B"}, "unknown key 'clas'; did you mean 'class'?"),
        ({"space": {"rate": {"low": 1, "hihg": 2}}}, "unknown key 'space.rate.hihg'; did you mean 'high'?"),
        ({"space": {"rate": {"choces": [1]}}}, "unknown key 'space.rate.choces'; did you mean 'choices'?"),
        ({"space": {"rate": {"choices": [1], "low": 0}}}, "key 'space.rate.low' does not go with the keys beside it"),
        (
            {"published": [{"datasets": ["a"], "source": "s", "parameter": {}}]},
            "unknown key 'published.0.parameter'; did you mean 'parameters'?",
        ),
        ({"published": [{"datasets": ["a"]}]}, "key 'published.0.source' is missing"),
        ({"space": {"rate": {"low": 1}}}, "key 'space.rate.high' is missing"),
        ({"space": {"rate": {"low": 2, "high": 1}}}, "space.rate: low (2) must be below high (1)"),
        (
            {"space": {"rate": {"low": 0, "high": 1, "log": True}}},
            "space.rate: a logarithmic range needs low above 0, not 0",
        ),
    ],
)
def test_problems_of_a_method_name_the_key(keys: dict[str, Any], message: str) -> None:
    assert problem_of(METHOD | keys) == message


@pytest.mark.parametrize(
    ("keys", "start", "end"),
    [
        ({"version": 0}, "version: ", "greater than or equal to 1, not 0"),
        ({"version": "two"}, "version: ", "not 'two'"),
        ({"class": "a.b.C"}, "class: ", "not 'a.b.C'"),
        ({"title": 5}, "title: ", "not 5"),
        ({"space": {"rate": {"choices": []}}}, "space.rate.choices: ", "not []"),
        ({"space": {"rate": 5}}, "space.rate: ", "not 5"),
        ({"space": {"rate": {"low": "a", "high": 1}}}, "space.rate.low: ", "not 'a'"),
        ({"space": {"rate": {"low": 0.0, "high": float("inf")}}}, "space.rate.high: ", "not inf"),
        ({"space": {"rate": {"low": float("nan"), "high": 1.0}}}, "space.rate.low: ", "not nan"),
        (
            {"published": [{"datasets": ["a"], "source": "s", "parameters": {"a": {"b": 1}}}]},
            "published.0.parameters.a: ",
            "not {'b': 1}",
        ),
    ],
)
def test_wrong_values_are_named_and_shown(keys: dict[str, Any], start: str, end: str) -> None:
    message = problem_of(METHOD | keys)
    assert message.startswith(start)
    assert message.endswith(end)


@pytest.mark.parametrize("content", [None, [], "word", 5])
def test_a_file_without_keys_is_told_so(content: Any) -> None:
    assert problem_of(content) == f"keys and their values are expected, not {content!r}"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rows": [{"name": "A", "methd": "m"}]}, "unknown key 'rows.0.methd'; did you mean 'method'?"),
        ({"search": {"trails": 3}}, "unknown key 'search.trails'; did you mean 'trials'?"),
        ({"seed": [1]}, "unknown key 'seed'; did you mean 'seeds'?"),
        ({"rows": [{"method": "m"}]}, "key 'rows.0.name' is missing"),
    ],
)
def test_problems_of_a_table_name_the_key(keys: dict[str, Any], message: str) -> None:
    assert problem_of(TABLE | keys, TableSpec) == message


def test_a_long_value_is_cut() -> None:
    assert len(problem_of(METHOD | {"title": list(range(1000))})) < 200
