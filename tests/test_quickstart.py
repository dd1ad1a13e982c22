"""`make quickstart` after its installation, reduced: one trial a study, one seed, each batch used once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from harness import cli

ROOT = Path(__file__).parent.parent
TABLE = "quickstart/ml-100k"


def diffbench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["diffbench", *arguments])
    try:
        cli.main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def test_quickstart_reduced(
    raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "results" / TABLE, tmp_path / "results" / TABLE)
    monkeypatch.setenv("DIFFBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DIFFBENCH_RESULTS", str(tmp_path / "results"))
    assert diffbench(monkeypatch, "data", "prepare", "ml-100k", "--raw", str(raw_data)) == 0
    assert "base 64,419, warm_a 4,720, warm_b 4,720, warm_c 4,720, test 13,147" in capsys.readouterr().out
    reduced = ["--set", "search.trials=1", "--set", "repetitions=1", "--seeds", "0", "--serial"]
    assert diffbench(monkeypatch, "run", TABLE, *reduced) == 0
    shown = capsys.readouterr().out
    for expected in ("DeepFM", "CSDM(DeepFM)", "1 of 10", "1 trials, 1 distinct"):
        assert expected in shown


def test_makefile_runs_the_quickstart_table() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("data prepare ml-100k", f"run {TABLE}", f"tensorboard {TABLE}"):
        assert f"$(BIN)/diffbench {command}" in makefile
