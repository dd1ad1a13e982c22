"""The command line as a user meets it: in this process, on small tables, one trial after the other."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness import cli, doctor
from harness.measured import read_measured, write_measured
from harness.store import RECORD
from tests.harness.small_table import SEQUENCES, TABLE, SmallTable, small_cold_start, small_next_item

HEADER = "dataset,row,metric,value,flag\n"


class Shell:
    """Runs `diffbench` on a small checkout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small: SmallTable) -> None:
        self.small, self._monkeypatch, self._capsys = small, monkeypatch, capsys
        published = small.places.results / TABLE / "published.csv"
        if not published.exists():
            published.write_text(HEADER)
        for name, value in small.variables.items():
            monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code, and what was printed to standard output and error."""
        self._monkeypatch.setattr(sys, "argv", ["diffbench", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def refused(self, *arguments: str) -> str:
        """Run a command that must end with exit code 2 and one line; return the line."""
        code, _, error = self(*arguments)
        assert code == 2, error
        assert error.count("\n") == 1, error
        assert error.startswith("diffbench: ")
        return error

    @property
    def results(self) -> Path:
        return self.small.places.results / TABLE


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    return Shell(monkeypatch, capsys, small_next_item(tmp_path))


def test_search_repeat_and_show(shell: Shell) -> None:
    code, out, error = shell("run", TABLE, "--serial")
    assert code == 0, error
    assert "Last" in out
    assert error.count("· search:") == 4
    assert error.count("· seed ") == 3
    assert len(read_measured(shell.results / "measured.parquet")) == 3
    assert "| Last |" in (shell.results / "table.md").read_text()
    assert (shell.results / "seeds.png").read_bytes().startswith(b"\x89PNG")
    for name, sign in {"text": "Last", "md": "| Last |", "csv": "dataset,row,", "latex": r"\begin{tab"}.items():
        code, out, _ = shell("show", TABLE, "--format", name)
        assert code == 0
        assert sign in out


def test_published_skips_the_search(shell: Shell) -> None:
    code, _, error = shell("run", TABLE, "--serial", "--published", "--seeds", "0-1")
    assert code == 0, error
    assert "search" not in error
    assert [record.selection for record in read_measured(shell.results / "measured.parquet")] == ["published"] * 2


def test_a_part_of_the_seeds_adds_to_the_rest(shell: Shell) -> None:
    for seeds in ("0", "1,2"):
        assert shell("run", TABLE, "--serial", "--published", "--seeds", seeds)[0] == 0
    assert [record.seed for record in read_measured(shell.results / "measured.parquet")] == [0, 1, 2]


def test_changed_parameters_are_shown_and_not_kept(shell: Shell) -> None:
    code, out, error = shell("run", TABLE, "--serial", "--published", "--set", "size=2", "--seeds", "0")
    assert code == 0
    assert "not kept" in error
    assert "size=2" in out
    assert not (shell.results / "measured.parquet").exists()


def test_other_data_are_shown_and_not_kept(shell: Shell) -> None:
    assert shell("run", TABLE, "--serial", "--published")[0] == 0
    kept = read_measured(shell.results / "measured.parquet")
    other = [replace(record, data_hash="0" * 64, metrics={"test/recall@5": 0.4321}) for record in kept]
    write_measured(shell.results / "measured.parquet", other)
    code, out, error = shell("run", TABLE, "--serial", "--published", "--seeds", "0")
    assert code == 0
    assert "the table's folder has 000000000000: shown below, not kept; delete the folder's measured.parquet" in error
    assert "0.4321" not in out
    assert read_measured(shell.results / "measured.parquet") == other
    assert "0.4321" in (shell.results / "table.md").read_text()


def test_a_table_has_one_name(shell: Shell) -> None:
    for name in (f"{TABLE}/", f"./{TABLE}", str(shell.results), "../results/doubles/table1"):
        code, _, error = shell("run", name, "--serial")
        assert code == 2
        assert "unknown table" in error


def test_plan_counts_and_estimates(shell: Shell) -> None:
    code, out, _ = shell("plan", TABLE)
    assert code == 0
    assert "7 trials" in out
    assert "not known yet" in out
    shell("run", TABLE, "--serial", "--seeds", "0")
    code, out, _ = shell("plan", TABLE)
    assert "2 trials" in out
    assert "about" in out


def test_names_in_brackets_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    odd = "Last [/b] [red] :100:"
    small = small_next_item(
        tmp_path, reference=odd, rows=[{"name": name, "method": "last_item"} for name in (odd, "B")]
    )
    shell = Shell(monkeypatch, capsys, small)
    assert odd in shell("plan", TABLE, "--published")[1]
    code, shown, progress = shell("run", TABLE, "--published", "--seeds", "0", "--serial")
    assert code == 0
    assert f"{odd} · seed 0: test/" in progress
    assert f"Paired differences to {odd}" in shown
    assert shell("show", TABLE)[1] == shown


def test_an_option_that_stands_twice_means_both(shell: Shell) -> None:
    _, once, _ = shell("plan", TABLE, "--published", "--seeds", "0,1")
    _, twice, _ = shell("plan", TABLE, "--published", "--seeds", "0", "--seeds", "1")
    assert "2 trials" in once
    assert twice == once


def test_failed_trial_is_recorded_shown_and_does_not_stop_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [{"name": "Bad", "method": "nan_loss"}, {"name": "Worse", "method": "raises"}]
    shell = Shell(
        monkeypatch,
        capsys,
        small_next_item(
            tmp_path,
            rows=[*rows, {"name": "Last", "method": "last_item", "parameters": {"learning_rate": 0.1, "size": 4}}],
        ),
    )
    code, out, _ = shell("run", TABLE, "--serial")
    assert code == 1
    status = {(record.row, record.status) for record in read_measured(shell.results / "measured.parquet")}
    assert status == {("Bad", "failed"), ("Worse", "failed"), ("Last", "finished")}
    assert "the first line and the second" in " ".join(out.split())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob(f"*/{RECORD}")}
    assert shell("run", TABLE, "--serial")[0] == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a failed trial ran again unasked"
    assert shell("run", TABLE, "--serial", "--retry-failed")[0] == 1
    assert sum(path.stat().st_mtime_ns != time for path, time in before.items()) == 6


def test_damaged_trial_runs_again(shell: Shell) -> None:
    shell("run", TABLE, "--serial", "--published")
    content = (shell.results / "measured.parquet").read_bytes()
    damaged = sorted((shell.small.folder / "runs").glob(f"*/{RECORD}"))[1]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    code, _, error = shell("run", TABLE, "--serial", "--published")
    assert code == 0
    assert error.count("· seed ") == 1
    metrics = [record.metrics for record in read_measured(shell.results / "measured.parquet")]
    (shell.results / "measured.parquet").write_bytes(content)
    assert [record.metrics for record in read_measured(shell.results / "measured.parquet")] == metrics


def test_second_run_of_a_table_is_told(shell: Shell) -> None:
    with shell.small.store.claim(f"table {TABLE}", wait=False):
        assert "another run is at work on it" in shell.refused("run", TABLE, "--serial")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "doubles/tabel1"], "did you mean 'doubles/table1'"),
        (["show", "doubles/tabel1"], "did you mean 'doubles/table1'"),
        (["run", TABLE, "--datasets", "small-sequence"], "did you mean 'small-sequences'"),
        (["run", TABLE, "--methods", "Lost"], "did you mean 'Last'"),
        (["run", TABLE, "--set", "learning_rat=0.1"], "did you mean 'learning_rate'"),
        (["run", TABLE, "--serial", "--published", "--set", "learning_rate=-1"], "greater than 0"),
        (["run", TABLE, "--serial", "--published", "--set", "size=big"], "size"),
        (["run", TABLE, "--set", "search.trials=none"], "trials: "),
        (["run", TABLE, "--seeds", "one"], "--seeds"),
        (["data", "prepare", "ml-1n"], "did you mean 'ml-1m'"),
        (["run", TABLE, "--address", "127.0.0.1:1"], "cannot be reached"),
        (["run", TABLE, "--address", "nowhere"], "host:6379"),
        (["run", TABLE, "--store", "nosuch://store"], "cannot be used"),
    ],
)
def test_bad_input_is_one_line(shell: Shell, arguments: list[str], expected: str) -> None:
    assert expected in shell.refused(*arguments)
    assert not list((shell.small.folder / "runs").glob("*")) or not list(
        (shell.small.folder / "runs").glob(f"*/{RECORD}")
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"metrics": ["recall@5", "recal@10"]}, "did you mean 'recall@10'"),
        ({"task": "next_itm"}, "did you mean 'next_item'"),
        ({"rows": [{"name": "Last", "method": "last_itm"}]}, "did you mean 'last_item'"),
        ({"rows": [{"name": "Last", "methode": "last_item"}]}, "did you mean 'method'"),
        ({"rows": [{"name": "Last", "method": "last_item", "parameters": {"sise": 3}}]}, "did you mean 'size'"),
        ({"rows": [{"name": "Last", "method": "lacks_scores"}]}, "lacks optimizer, rank_scores"),
        ({"reference": "Lost"}, "did you mean 'Last'"),
        ({"seeds": []}, "seeds"),
        ({"datasets": ["nowhere"]}, "nowhere"),
    ],
)
def test_bad_table_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    keys: dict[str, object],
    expected: str,
) -> None:
    shell = Shell(monkeypatch, capsys, small_next_item(tmp_path, **keys))
    code, _, error = shell("run", TABLE, "--serial")
    assert code == 2, error
    assert expected in error.splitlines()[-1]
    assert "Traceback" not in error


def test_published_cell_without_a_row_is_one_line(shell: Shell) -> None:
    (shell.results / "published.csv").write_text(f"{HEADER}{SEQUENCES},Lats,recall@5,0.1,\n")
    assert "did you mean 'Last'" in shell.refused("show", TABLE)


def test_more_cpus_or_gpus_than_there_are(shell: Shell) -> None:
    assert "CPUs" in shell.refused("run", TABLE, "--published", "--set", "threads=1000")
    assert "GPUs" in shell.refused("run", TABLE, "--published", "--set", "gpus=9")


def test_cold_start_table_shares_the_pretrained_backbone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shell = Shell(monkeypatch, capsys, small_cold_start(tmp_path))
    code, _, error = shell("run", TABLE, "--serial")
    assert code == 0, error
    records = [shell.small.store.record(trial_id) for trial_id in shell.small.store.ids()]
    started = [record.spec.starts_from.id for record in records if record and record.spec.starts_from]
    assert started
    assert set(started) <= {record.id for record in records if record}


def test_tensorboard_writes_trials_studies_and_the_table(shell: Shell) -> None:
    assert "no table has trials yet" in shell.refused("tensorboard", "--no-serve")
    shell("run", TABLE, "--serial")
    code, _, error = shell("tensorboard", "--no-serve")
    assert code == 0, error
    runs = {
        str(path.parent.relative_to(shell.small.places.tensorboard))
        for path in shell.small.places.tensorboard.rglob("events.*")
    }
    where = f"{TABLE}/{SEQUENCES}/Last"
    assert {f"{where}/tuned/seed 0", f"{where}/search/00", f"{TABLE}/summary", "studies"} <= runs
    _, _, error = shell("tensorboard", TABLE, "--no-serve")
    assert "0 runs written" in error


def test_doctor_names_what_it_finds(shell: Shell) -> None:
    code, out, _ = shell("doctor")
    assert "store" in out
    assert "lacks_scores" in out  # a method of this checkout that cannot work
    assert code == 2


def test_doctor_goes_on_without_what_it_misses(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(doctor, "_gpus", missing)
    monkeypatch.setattr(doctor, "_ray", missing)
    code, out, _ = shell("doctor")
    assert code == 2
    for what in ("processor", "ray"):
        assert f"BAD  {what}: No module named 'torch'; run `make install`" in out
    assert "disk" in out


def test_data_list_names_every_dataset(shell: Shell) -> None:
    code, out, _ = shell("data", "list")
    assert code == 0
    assert "amazon-beauty" in out
