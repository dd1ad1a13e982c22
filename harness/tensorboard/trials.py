"""Runs of a table's trials: scalars, texts, curves, and for search trials their place in the HParams page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event

from harness.figures.reliability import plot_diagrams
from harness.metrics.calibration import Reliability, diagram_of
from harness.record import TrialResult
from harness.specs import Selection, Value
from harness.store import Store
from harness.tasks import load_task
from harness.tensorboard.curves import StageCurves, plot_curves, stage_curves
from harness.tensorboard.events import image, key_of, markdown_list, remove_run, run_folder, scalar, text, write_run
from harness.tensorboard.studies import FINAL, session_events
from harness.trial import load_arrays

MIB = 1024**2
RELIABILITY = ("test/reliability", "validation/reliability")


@dataclass(frozen=True)
class TrialEntry:
    """A trial at its place in a table.

    `row` is the row's name. `number` counts the trials of a study and says that this is one of them; None for a
    repeat, whose place is its seed. `parameters` are shown beside those of the spec, which leaves out what stands at
    its default: what the study sampled, for example.
    """

    result: TrialResult
    dataset: str
    row: str
    selection: Selection
    number: int | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)

    @property
    def group(self) -> tuple[str, str, str]:
        """The names of the folders that this trial shares with others of its kind."""
        return self.dataset, self.row, self.selection if self.number is None else "search"

    @property
    def name(self) -> str:
        """The last part of the run's name."""
        return f"seed {self.result.spec.seed}" if self.number is None else f"{self.number:02d}"


def write_trials(table_name: str, entries: Iterable[TrialEntry], store: Store, logdir: Path) -> int:
    """Write a run for each trial, and for each dataset the curves of its rows; return how many runs were written.

    Runs that are current stay as they are. The trials of a row on a dataset under one selection, or of a study, are
    replaced as a whole: a run whose trial is not among them any more is removed.

    Raises:
        StoreError: the store cannot be read, or `logdir` not written.
    """
    written = 0
    groups: dict[tuple[str, str, str], list[TrialEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
        written += _write_trial(table_name, entry, store, logdir)
    for group, members in groups.items():
        _remove_others(run_folder(logdir, table_name, *group), {member.name for member in members})
    for dataset in dict.fromkeys(group[0] for group in groups):
        repeats = [members for group, members in groups.items() if group[0] == dataset and group[2] != "search"]
        written += _write_overlay(table_name, dataset, repeats, store, logdir)
    return written


def _write_trial(table_name: str, entry: TrialEntry, store: Store, logdir: Path) -> bool:
    def events() -> Iterator[Event]:
        if entry.number is not None:
            study = f"{table_name}/{entry.dataset}/{entry.row}"
            yield from session_events(study, entry.result, entry.parameters)
        yield from _final_scalars(entry.result)
        yield from _texts(entry)
        yield from _curve_scalars(entry.result)
        arrays = load_arrays(entry.result, store)
        stages = stage_curves(entry.result, arrays)
        if stages:
            yield image("test/roc_and_precision_recall", plot_curves(stages, f"{entry.row}, {entry.name}"))
        for name in RELIABILITY:
            if name in arrays:
                yield image(name, plot_diagrams({entry.name: diagram_of(arrays[name])}, entry.row))

    shown = [table_name, *entry.group, entry.name, dict(entry.parameters)]
    key = key_of(shown, entry.result.to_json().decode())
    return write_run(run_folder(logdir, table_name, *entry.group, entry.name), key, events)


def _final_scalars(result: TrialResult) -> Iterator[Event]:
    """Yield what is measured once, the metrics first and the primary one before all, as `write_studies` expects."""
    seconds = result.wall_seconds
    primary = load_task(result.spec.task).primary
    for name in sorted(result.metrics, key=lambda name: name != primary):
        yield scalar(f"{FINAL}{name}", result.metrics[name], seconds=seconds)
    yield scalar("time/wall_seconds", seconds, seconds=seconds)
    yield scalar("time/cpu_seconds", result.cpu_seconds, seconds=seconds)
    yield scalar("memory/peak_mib", result.peak_memory_bytes / MIB, seconds=seconds)


def _curve_scalars(result: TrialResult) -> Iterator[Event]:
    for name, curve in result.curves.items():
        for step, value, seconds in zip(curve.steps, curve.values, curve.seconds, strict=True):
            yield scalar(name, value, step=step, seconds=seconds)


def _texts(entry: TrialEntry) -> Iterator[Event]:
    result, spec = entry.result, entry.result.spec
    if result.status == "failed":
        yield text("error", f"    {result.error}")  # indented: shown as it stands
    facts = [
        ("trial", result.id),
        ("method", f"{spec.method}, task {spec.task}"),
        ("parameters", json.dumps(dict(spec.parameters) | dict(entry.parameters), sort_keys=True)),
        ("purpose", f"{spec.purpose}, seed {spec.seed}"),
        ("starts from", spec.starts_from.id if spec.starts_from else None),
        ("dataset", f"{spec.dataset}, {spec.dataset_hash[:12]}"),
        ("code", result.code_hash),
    ]
    yield text("trial", markdown_list(facts))
    if result.data_note:
        yield text("data_note", result.data_note)
    if result.environment is not None:
        yield text("environment", markdown_list(result.environment.model_dump().items()))


def _remove_others(folder: Path, names: set[str]) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in names:
            remove_run(path)


def _write_overlay(
    table_name: str, dataset: str, groups: Sequence[Sequence[TrialEntry]], store: Store, logdir: Path
) -> bool:
    """Write a figure for each stage, and one of reliability: every row's curve under its first finished seed."""
    shown: dict[str, TrialEntry] = {}
    for members in groups:
        finished = [entry for entry in members if entry.result.status == "finished"]
        if finished:
            first = min(finished, key=lambda entry: entry.result.spec.seed)
            shown[f"{first.row}, {first.selection}, {first.name}"] = first

    by_stage: dict[str, dict[str, StageCurves]] = {}
    diagrams: dict[str, Reliability] = {}
    for label, entry in shown.items():
        arrays = load_arrays(entry.result, store)
        for stage, curve in stage_curves(entry.result, arrays).items():
            by_stage.setdefault(stage, {})[label] = curve
        if RELIABILITY[0] in arrays:
            diagrams[label] = diagram_of(arrays[RELIABILITY[0]])

    def events() -> Iterator[Event]:
        for stage, curves in by_stage.items():
            yield image(f"roc_and_precision_recall/{stage}", plot_curves(curves, f"{dataset}, {stage}"))
        if diagrams:
            yield image("reliability/test", plot_diagrams(diagrams, dataset))

    folder = run_folder(logdir, table_name, dataset, "curves")
    if not by_stage and not diagrams:
        remove_run(folder)
        return False
    key = key_of(dataset, [(label, entry.result.id, entry.result.files) for label, entry in shown.items()])
    return write_run(folder, key, events)
