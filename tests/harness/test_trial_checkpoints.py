"""A trial that is killed again and again, each time going on from its last checkpoint, against one that is not."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.datasets.item_text import write_artefact
from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_interactions, write_small_sequences
from harness.devices import CPU
from harness.errors import InputError, StoreError
from harness.methods import MethodCatalog, trial_spec
from harness.places import places
from harness.record import TrialResult
from harness.specs import FeedKind, Parameters, TrialSpec
from harness.store import Store
from harness.stream_plan import ORDER_VERSION
from harness.table_rows import Row
from harness.trial import (
    CHECKPOINT_SECONDS,
    ROWS_SEEN,
    RUNNING,
    checkpoint_seconds,
    code_hash,
    finish_trial,
    run_trial,
)
from harness.trial_checkpoints import TrialCheckpoints
from tests.other_device import other_device
from trainables.base import SequenceSource
from trainables.next_item.s3rec import S3Rec

KILLS = 10


class Killed(BaseException):
    """Stands for the process's end: nothing catches it."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_small_interactions(tmp_path_factory.mktemp("prepared") / "small")


def spec_of(
    dataset: PreparedDataset,
    method: str,
    parameters: Parameters,
    feed: FeedKind = "stream",
    task: str = "cold_start",
) -> TrialSpec:
    shared: Parameters = {"backbone": "deepfm", "batch_size": 128, "adapt_epochs": 2}
    return trial_spec(
        task_name=task,
        dataset=dataset.name,
        dataset_hash=dataset.hash,
        row=Row(name="row", method=method),
        parameters=(shared if task == "cold_start" else {"maximum_epochs": 20, "patience": 20}) | parameters,
        seed=3,
        threads=1,
        purpose="repeat",
        gpus=0,
        catalog=MethodCatalog(places().search_spaces),
        start=None,
        feed=feed,
    )


def next_item_spec(dataset: PreparedDataset, method: str, parameters: Parameters) -> TrialSpec:
    return spec_of(dataset, method, parameters, "resident", "next_item")


def killed_again_and_again(
    spec: TrialSpec, dataset: PreparedDataset, steps: random.Random, device: torch.device = CPU
) -> tuple[TrialResult, int]:
    """Run a trial whose process ends at random steps; return its record and how often it was killed."""
    last: bytes | None = None
    catalog = MethodCatalog(places().search_spaces)
    for kills in range(KILLS + 1):
        left = steps.randrange(1, 3) if kills < KILLS else 10**9

        def write(content: bytes) -> None:
            nonlocal last, left
            if left <= 0:
                raise Killed
            last, left = content, left - 1

        checkpoints = TrialCheckpoints(write, seconds=0, resumed=last)
        try:
            result, _ = run_trial(spec, dataset, catalog, checkpoints=checkpoints, device=device)
        except Killed:
            continue
        return result, kills
    raise AssertionError("it was not to be killed for ever")


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("bare_backbone", {"epochs": 2}),
        ("csdm", {"repetitions": 2, "adapt_generator_epochs": 2}),
        ("meta_embedding", {"fit_epochs": 2}),
        ("mwuf", {"embedding_updates": "touched_rows"}),
        ("dropoutnet", {}),
        ("velf", {}),
        ("dgenctr_backbone", {"restoring_epochs": 1, "epochs": 2}),
    ],
)
def test_a_killed_trial_gives_the_numbers_of_one_that_was_not(
    dataset: PreparedDataset, method: str, parameters: Parameters
) -> None:
    spec = spec_of(dataset, method, parameters)
    catalog = MethodCatalog(places().search_spaces)
    alone, _ = run_trial(spec, dataset, catalog, checkpoints=TrialCheckpoints(lambda content: None))
    found, kills = killed_again_and_again(spec, dataset, random.Random(method))
    assert kills == KILLS, "too few steps to be killed so often"
    assert alone.status == found.status == "finished", found.error
    assert found.metrics == alone.metrics
    assert found.curves[ROWS_SEEN].values == alone.curves[ROWS_SEEN].values
    losses = [name for name in alone.curves if not name.endswith(("rows_per_second", "rows_seen"))]
    assert {name: found.curves[name].values for name in losses} == {name: alone.curves[name].values for name in losses}


def test_checkpoints_do_not_change_the_numbers(dataset: PreparedDataset) -> None:
    spec = spec_of(dataset, "csdm", {"repetitions": 2})
    catalog = MethodCatalog(places().search_spaces)
    plain, _ = run_trial(spec, dataset, catalog)
    taken: list[int] = []
    found, _ = run_trial(
        spec, dataset, catalog, checkpoints=TrialCheckpoints(lambda content: taken.append(len(content)), seconds=0)
    )
    assert found.metrics == plain.metrics
    assert len(taken) > 20


def test_rows_seen_are_those_of_all_epochs(dataset: PreparedDataset) -> None:
    spec = spec_of(dataset, "bare_backbone", {"epochs": 3})
    rows = dataset.schema.splits
    found, _ = run_trial(
        spec, dataset, MethodCatalog(places().search_spaces), checkpoints=TrialCheckpoints(lambda content: None)
    )
    blocks = sum(rows[f"warm_{block}"].rows for block in "abc")
    assert found.curves[ROWS_SEEN].values == [3 * rows["base"].rows + 2 * blocks]


def test_a_checkpoint_is_due_by_time(dataset: PreparedDataset) -> None:
    taken: list[int] = []
    checkpoints = TrialCheckpoints(lambda content: taken.append(1), seconds=10**6)
    spec = spec_of(dataset, "bare_backbone", {"epochs": 4})
    run_trial(spec, dataset, MethodCatalog(places().search_spaces), checkpoints=checkpoints)
    assert len(taken) == 1, "the first tells how long a step takes"


def test_checkpoints_that_take_long_are_taken_less_often(dataset: PreparedDataset) -> None:
    spec, taken = spec_of(dataset, "bare_backbone", {"epochs": 4}), [0, 0]

    def write(content: bytes) -> None:
        taken[0] += 1

    def write_slowly(content: bytes) -> None:
        time.sleep(0.5)  # of which a twentieth would be ten seconds, longer than the whole training
        taken[1] += 1

    for taker in (write, write_slowly):
        run_trial(
            spec, dataset, MethodCatalog(places().search_spaces), checkpoints=TrialCheckpoints(taker, seconds=1e-6)
        )
    assert taken[0] > 1
    assert taken[1] == 1, "the first alone"


def test_streamed_and_resident_trials_are_different_trials(dataset: PreparedDataset) -> None:
    resident, stream = (spec_of(dataset, "csdm", {}, feed) for feed in ("resident", "stream"))
    assert resident.id != stream.id != stream.model_copy(update={"workers": 2}).id
    before = resident.model_dump(mode="json", exclude={"feed", "workers"})
    assert TrialSpec.model_validate(before).id == resident.id
    assert stream.versions == resident.versions | {"stream_order": ORDER_VERSION}, "another order is another trial"


def test_a_killed_trial_on_another_device_gives_the_numbers_of_one_on_the_cpu(dataset: PreparedDataset) -> None:
    spec = spec_of(dataset, "bare_backbone", {"epochs": 2, "embedding_updates": "touched_rows"})
    whole, _ = run_trial(spec, dataset, MethodCatalog(places().search_spaces))
    with other_device() as device:
        result, kills = killed_again_and_again(spec, dataset, random.Random(1), device)
    assert (result.error, kills) == ("", KILLS)
    assert whole.metrics == result.metrics


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_small_sequences(tmp_path_factory.mktemp("sequences") / "small", users=120)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("sasrec", {"size": 8, "validate_every": 2, "maximum_epochs": 40}),
        ("diffrec", {"size": 8}),
        ("preferdiff", {"size": 8, "precision": "bfloat16", "weight_decay": 0.01}),
    ],
)
def test_a_killed_next_item_trial_gives_the_numbers_of_one_that_was_not(
    sequences: PreparedDataset, method: str, parameters: Parameters
) -> None:
    spec = next_item_spec(sequences, method, parameters)
    plain, _ = run_trial(spec, sequences, MethodCatalog(places().search_spaces))
    found, kills = killed_again_and_again(spec, sequences, random.Random(method))
    assert (plain.error, found.error, kills) == ("", "", KILLS)
    assert found.metrics == plain.metrics
    curves = [name for name in plain.curves if not name.endswith(("per_second", "inference_s"))]
    assert {name: found.curves[name].values for name in curves} == {name: plain.curves[name].values for name in curves}
    assert found.curves.keys() == plain.curves.keys()


def test_what_a_killed_trial_had_prepared_is_not_prepared_again(
    sequences: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S³-Rec, which pretrains when it is prepared; the first kill comes after a checkpoint of its fine-tuning."""
    attribute_IA = np.arange(sequences.schema.items, dtype=np.int32)[:, None] % 5 + 1
    folder = sequences.folder / "attributes"
    write_artefact(folder, {"attribute": attribute_IA}, dataset=sequences.name, content="attributes", note="ours")
    spec = next_item_spec(sequences, "s3rec", {"size": 8, "pretraining_epochs": 2, "maximum_epochs": 24})
    prepare, started = S3Rec.prepare, 0

    def counted(self: S3Rec, train: SequenceSource) -> None:
        nonlocal started
        started += 1
        prepare(self, train)

    monkeypatch.setattr(S3Rec, "prepare", counted)
    plain, _ = run_trial(spec, sequences, MethodCatalog(places().search_spaces))
    assert (plain.error, started) == ("", 1)
    found, kills = killed_again_and_again(spec, sequences, random.Random(1))
    assert (found.error, kills, started) == ("", KILLS, 2)
    assert found.metrics == plain.metrics
    assert found.curves["train/loss"].values == plain.curves["train/loss"].values


def test_the_time_of_earlier_processes_counts(sequences: PreparedDataset) -> None:
    spec = next_item_spec(sequences, "sasrec", {"size": 8, "maximum_epochs": 4})
    catalog = MethodCatalog(places().search_spaces)
    taken: list[bytes] = []
    run_trial(spec, sequences, catalog, checkpoints=TrialCheckpoints(taken.append, seconds=0))
    content = torch.load(io.BytesIO(taken[1]), weights_only=True)
    content["clock"] = {"wall_seconds": 50_000.0, "cpu_seconds": 40_000.0}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    found, _ = run_trial(
        spec, sequences, catalog, checkpoints=TrialCheckpoints(lambda _: None, resumed=buffer.getvalue())
    )
    assert 50_000 < found.wall_seconds < 100_000, "counted once"
    assert 40_000 < found.cpu_seconds < 80_000, "counted once"
    before, after = (found.curves["train/loss"].seconds[part] for part in (slice(2), slice(2, None)))
    assert max(before) < 50_000 < min(after)
    assert len(before) == len(after) == 2


def test_a_trial_in_memory_goes_on_from_what_the_store_has(
    sequences: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    spec = next_item_spec(sequences, "preferdiff", {"size": 8, "maximum_epochs": 6, "patience": 6})
    catalog, store = MethodCatalog(places().search_spaces), Store(tmp_path)
    whole, _ = run_trial(spec, sequences, catalog)
    write, written = Store.write_checkpoint, 0

    def write_and_die(self: Store, name: str, file: str, content: bytes) -> None:
        nonlocal written
        write(self, name, file, content)
        written += 1
        if written == 4:
            raise Killed

    monkeypatch.setattr(Store, "write_checkpoint", write_and_die)
    with pytest.raises(Killed):
        finish_trial(spec, sequences, catalog, store, keep_checkpoint=False)
    assert store.record(spec.id) is None
    assert [path.name for path in (tmp_path / ".checkpoints").glob("*/*")] == [RUNNING]
    found = finish_trial(spec, sequences, catalog, store, keep_checkpoint=False)
    assert written == 6, "two epochs were left"
    assert (found.error, found.metrics) == ("", whole.metrics)
    assert not list((tmp_path / ".checkpoints").iterdir())


@pytest.mark.parametrize("damage", ["empty", "cut", "zeroed", "half zeroed"])
def test_a_damaged_checkpoint_is_removed_and_the_trial_begins_anew(
    damage: str,
    sequences: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = next_item_spec(sequences, "gru4rec", {"size": 8, "maximum_epochs": 2})
    catalog, store = MethodCatalog(places().search_spaces), Store(tmp_path)
    taken: list[bytes] = []
    whole, _ = run_trial(spec, sequences, catalog, checkpoints=TrialCheckpoints(taken.append, seconds=0))
    half = len(taken[0]) // 2
    content = {
        "empty": b"",
        "cut": taken[0][:half],
        "zeroed": bytes(len(taken[0])),
        "half zeroed": taken[0][:half] + bytes(half),
    }[damage]
    store.write_checkpoint(f"{spec.id}-{code_hash()}", RUNNING, content)
    removed: list[str] = []
    monkeypatch.setattr(Store, "remove_checkpoints", lambda self, trial_id: removed.append(trial_id))
    found = finish_trial(spec, sequences, catalog, store, keep_checkpoint=False)
    assert (found.error, found.metrics) == ("", whole.metrics)
    (warning,) = caplog.messages
    assert warning.startswith(f"trial {spec.id}: its checkpoint cannot be read (")
    assert warning.endswith("); it begins anew")
    assert "\n" not in warning
    assert removed == [spec.id, spec.id], "at once, and at its end"


def test_a_checkpoint_of_other_code_is_left_alone_and_goes_with_the_trial(
    sequences: PreparedDataset, tmp_path: Path
) -> None:
    spec = next_item_spec(sequences, "gru4rec", {"size": 8, "maximum_epochs": 1})
    store = Store(tmp_path)
    store.write_checkpoint(f"{spec.id}-0123", RUNNING, b"of a program that is gone")
    assert (
        finish_trial(spec, sequences, MethodCatalog(places().search_spaces), store, keep_checkpoint=False).error == ""
    )
    assert not list((tmp_path / ".checkpoints").iterdir())


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_seconds_that_are_none_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHECKPOINT_SECONDS, text)
    with pytest.raises(InputError, match="is no number of seconds; set 0 or more, or unset it"):
        checkpoint_seconds(30)


def test_a_checkpoint_that_cannot_be_written_fails_no_trial(
    sequences: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Store, name: str, file: str, content: bytes) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(Store, "write_checkpoint", full)
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    spec = next_item_spec(sequences, "gru4rec", {"size": 8, "maximum_epochs": 2})
    catalog = MethodCatalog(places().search_spaces)
    assert finish_trial(spec, sequences, catalog, Store(tmp_path), keep_checkpoint=False).error == ""
