from __future__ import annotations

import pytest

from harness.errors import InputError
from harness.options import chosen_names, chosen_rows, chosen_seeds, with_overrides
from harness.table_rows import Row
from harness.table_specs import TableSpec

TABLE = TableSpec(
    title="t",
    paper="p",
    kind="cells",
    task="next_item",
    datasets=("small",),
    metrics=("recall@5",),
    seeds=(0, 1, 2, 5, 7),
    rows=(Row(name="First", method="sasrec"), Row(name="Second", method="dreamrec"), Row(name="Third")),
)


def test_names_keep_the_tables_order() -> None:
    assert chosen_names("--datasets", "b, a", ("a", "b", "c")) == ("a", "b")
    assert chosen_names("--datasets", None, ("a", "b")) == ("a", "b")


def test_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(InputError, match=r"--datasets: unknown name 'amazon-beuty'; did you mean 'amazon-beauty'\?"):
        chosen_names("--datasets", "amazon-beuty", ("amazon-beauty", "ml-1m"))


@pytest.mark.parametrize("text", ["", " , "])
def test_an_option_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--methods '.*': expected names, separated by commas"):
        chosen_rows(text, TABLE.rows)


def test_rows_by_name_or_method() -> None:
    assert chosen_rows("sasrec,Third", TABLE.rows) == ("First", "Third")
    with pytest.raises(InputError, match="did you mean 'sasrec'"):
        chosen_rows("sasrek", TABLE.rows)


@pytest.mark.parametrize(("text", "seeds"), [("0-2,7", (0, 1, 2, 7)), ("5", (5,)), ("2-7", (2, 5, 7))])
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert chosen_seeds(text, TABLE) == seeds
    assert chosen_seeds(None, TABLE) == TABLE.seeds


@pytest.mark.parametrize("text", ["0,3", "0-9999999999999", "5-6"])
def test_a_seed_that_the_table_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"the table has no seed \d+, but 0, 1, 2, 5, 7; add it to its table\.yaml"):
        chosen_seeds(text, TABLE)


def test_a_table_without_seeds_has_none_to_choose() -> None:
    counts = TableSpec(title="T", paper="P", kind="statistics", datasets=("small",), metrics=("users",))
    with pytest.raises(InputError, match=r"^--seeds '0': a table of kind statistics has no seeds; leave the"):
        chosen_seeds("0", counts)
    assert chosen_seeds(None, counts) == ()


@pytest.mark.parametrize("text", ["a", "7-1", "1,1", "", "-1", "0..4"])
def test_bad_seeds_are_one_line(text: str) -> None:
    with pytest.raises(InputError) as error:
        chosen_seeds(text, TABLE)
    assert "--seeds" in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_change_the_table_or_name_parameters() -> None:
    spec, parameters = with_overrides(TABLE, ["search.trials=5", "threads=2", "rho=1e-3", "hidden=[16, 8]"])
    assert (spec.search.trials, spec.search.seed, spec.threads) == (5, TABLE.search.seed, 2)
    assert parameters == {"rho": 0.001, "hidden": (16, 8)}
    assert with_overrides(TABLE, [])[0] is TABLE


def test_threads_that_the_user_sets_are_those_of_all_rows() -> None:
    rows = (Row(name="First", method="sasrec", threads=4), Row(name="Second", method="dreamrec"))
    own = TABLE.model_copy(update={"written_rows": rows, "threads": 2})
    assert [own.threads_of(row) for row in own.written_rows] == [4, 2]
    spec, _ = with_overrides(own, ["threads=1"])
    assert [spec.threads_of(row) for row in spec.rows] == [1, 1]
    others, _ = with_overrides(own, ["search.trials=5"])
    assert [others.threads_of(row) for row in others.rows] == [4, 2]


@pytest.mark.parametrize("gpus", [0, 0.25, 1, 2])
def test_gpus_are_parts_of_one_or_whole(gpus: float) -> None:
    assert with_overrides(TABLE, [f"gpus={gpus}"])[0].gpus == gpus


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["rho"], "expected key=value"),
        (["search.trails=5"], "did you mean 'trials'"),
        (["search.trials=0"], "greater than or equal to 1"),
        (["threads=many"], "threads"),
        (["gpus=1.5"], "--set: gpus: 1.5: Ray gives fractions below 1 alone; choose a whole number"),
        (["gpus=.inf"], "gpus: "),
        (["gpus=.nan"], "gpus: "),
        (["rho=1", "rho=2"], "--set rho: stands twice"),
        (["threads=1", "threads=2"], "--set threads: stands twice"),
        (["search.trials=1", "search.trials=2"], "--set search.trials: stands twice"),
        (["rho=[1"], "not valid YAML"),
    ],
)
def test_bad_overrides_are_one_line(setting: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        with_overrides(TABLE, setting)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
