"""Trials on another device give the numbers of the CPU, bit for bit: this device computes with the CPU's operations."""

from __future__ import annotations

import inspect
import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.datasets import item_text
from harness.datasets.click_split import click_contents
from harness.datasets.encoder import Encoded
from harness.datasets.encoding import encode_categories, encode_sequence
from harness.datasets.item_descriptions import ItemDescription
from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_interactions, write_small_sequences
from harness.datasets.writing import write_prepared
from harness.devices import CPU, device_of
from harness.errors import ClusterError
from harness.feeds import Feed
from harness.methods import MethodCatalog, defaults, load_class, trial_spec
from harness.specs import FeedKind, Parameters, TrialSpec
from harness.table_rows import Row
from harness.tasks import load_task
from harness.trial import CHECKPOINT, run_trial
from tests.harness.leave_one_out import leave_one_out_contents, written
from tests.other_device import other_device
from trainables.base import ColdStartMethod, CtrModel, NextItemModel, NextItemRanker

CATALOG = MethodCatalog(Path(__file__).parents[2] / "search_spaces")
CLASSES = {name: load_class(CATALOG.find(name)) for name in CATALOG.names()}
FROM_ANOTHER = [n for n, cls in CLASSES.items() if issubclass(cls, NextItemModel) and cls.trains_from_start]
NEXT_ITEM = [n for n, cls in CLASSES.items() if issubclass(cls, NextItemRanker) and n not in FROM_ANOTHER]
WITH_USERS = [n for n in NEXT_ITEM if "users" in inspect.signature(CLASSES[n]).parameters]
COLD_START = [name for name, cls in CLASSES.items() if issubclass(cls, ColdStartMethod)]
BACKBONES = [name for name, cls in CLASSES.items() if issubclass(cls, CtrModel)]
SMALL: Parameters = {"size": 8, "maximum_epochs": 2, "diffusion_steps": 20, "ddim_steps": 3, "layers": 1, "beams": 3}
SMALL |= {"codebook_size": 8, "pretraining_epochs": 1, "batch_size": 256, "repetitions": 1, "epochs": 1, "steps": 20}
ROUNDED = ("gru4rec", "diffurec")
"""On the CPU alone, torch has kernels of its own for their layers."""

NEEDS_PACKAGE = {"tiger": "faiss"}
NAMES = ("soap", "lotion", "brush", "comb", "stone", "tin", "sponge")
DESCRIBED = [ItemDescription(f"{NAMES[item % 7]} {item}", (f"brand {item % 5}",)) for item in range(30)]


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("prepared") / "sequences"
    return write_small_sequences(folder, users=60, items=30, history_length=6, described_items=DESCRIBED)


@pytest.fixture(scope="module")
def interactions(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_small_interactions(tmp_path_factory.mktemp("prepared") / "interactions")


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    random, rows = np.random.default_rng(0), 1500
    contents = click_contents(
        row_columns=(
            encode_categories("user_id", "user_id", random.integers(0, 30, rows)),
            encode_categories("item_id", "item_id", random.integers(0, 20, rows)),
        ),
        user_columns=(encode_categories("parity", "user", np.arange(30) % 2),),
        item_columns=(encode_sequence("title", "item", [["film", f"word{item % 6}"] for item in range(20)], 3),),
        time_R=np.arange(rows),
        label_R=random.random(rows) < 0.4,
    )
    folder = tmp_path_factory.mktemp("prepared") / "clicks"
    return write_prepared(folder, contents, name="clicks", version=1, inputs=())


def spec_of(
    dataset: PreparedDataset,
    task: str,
    method: str,
    parameters: Parameters | None = None,
    *,
    start: TrialSpec | None = None,
    feed: FeedKind = "resident",
) -> TrialSpec:
    known = {*defaults(CLASSES[method]), *load_task(task).settings.model_fields}
    return trial_spec(
        task_name=task,
        dataset=dataset.name,
        dataset_hash=dataset.hash,
        row=Row(name="row", method=method),
        parameters={name: value for name, value in SMALL.items() if name in known} | (parameters or {}),
        seed=1,
        threads=1,
        purpose="repeat",
        gpus=0,
        catalog=CATALOG,
        start=start,
        feed=feed,
    )


def same_on_both(
    spec: TrialSpec, dataset: PreparedDataset, *, start: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Run a trial on the CPU and on the other device; return the checkpoint that both leave."""
    feed = Feed(spec.feed)
    first, files = run_trial(spec, dataset, CATALOG, start, feed=feed)
    with other_device() as device:
        other, other_files = run_trial(spec, dataset, CATALOG, start, feed=feed, device=device)
    assert (first.error, other.error) == ("", "")
    rounded = spec.method in ROUNDED
    assert other.metrics == (pytest.approx(first.metrics, abs=1e-6) if rounded else first.metrics)
    assert other.environment is not None
    assert other.environment.gpu == "lazy"
    checkpoint = state(files.get(CHECKPOINT))
    for name, tensor in state(other_files.get(CHECKPOINT)).items():
        tolerance = {"rtol": 1e-3, "atol": 1e-5} if rounded else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(tensor, checkpoint[name], **tolerance, msg=name)
    return checkpoint


def state(checkpoint: bytes | None) -> dict[str, Tensor]:
    return {} if checkpoint is None else torch.load(io.BytesIO(checkpoint), weights_only=True)


def by_letters(sentences: Sequence[str], name: str, pooling: str) -> Encoded:
    counts = [[sentence.count(letter) for letter in "aeionst1"] for sentence in sentences]
    return Encoded(np.array(counts, dtype=np.float32), "f" * 64)


@pytest.mark.parametrize("method", NEXT_ITEM)
def test_every_next_item_method(method: str, sequences: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    if method in NEEDS_PACKAGE:
        pytest.importorskip(NEEDS_PACKAGE[method])
    monkeypatch.setattr(item_text, "encode", by_letters)
    same_on_both(spec_of(sequences, "next_item", method), sequences)


@pytest.mark.parametrize("negatives", ["centroid", "each"])
def test_preferdiff_with_some_of_its_negatives(negatives: str, sequences: PreparedDataset) -> None:
    parameters: Parameters = {"negatives": negatives, "negative_samples": 3}
    same_on_both(spec_of(sequences, "next_item", "preferdiff", parameters), sequences)


@pytest.mark.parametrize("method", WITH_USERS)
def test_every_method_that_takes_users(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if method in NEEDS_PACKAGE:
        pytest.importorskip(NEEDS_PACKAGE[method])
    monkeypatch.setattr(item_text, "encode", by_letters)
    dataset = written(leave_one_out_contents(described_items=DESCRIBED), tmp_path / "leave-one-out")
    same_on_both(spec_of(dataset, "next_item", method), dataset)


@pytest.mark.parametrize("method", FROM_ANOTHER)
def test_a_method_that_trains_from_another_ones_checkpoint(method: str, sequences: PreparedDataset) -> None:
    trained = spec_of(sequences, "next_item", "dreamrec")
    checkpoint = same_on_both(trained, sequences)
    same_on_both(spec_of(sequences, "next_item", method, start=trained), sequences, start=checkpoint)


@pytest.mark.parametrize("method", COLD_START)
def test_every_cold_start_method(method: str, interactions: PreparedDataset) -> None:
    same_on_both(spec_of(interactions, "cold_start", method, {"backbone": "deepfm"}), interactions)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone(backbone: str, clicks: PreparedDataset) -> None:
    small: Parameters = {"backbone.neurons": 8, "backbone.hidden": [8]} if backbone == "afn" else {}
    same_on_both(spec_of(clicks, "ctr", "supervised", {"backbone": backbone, **small}), clicks)


@pytest.mark.parametrize("corruption", ["mask", "uniform"])
def test_pre_training_and_what_starts_from_it(corruption: str, clicks: PreparedDataset) -> None:
    parameters: Parameters = {"backbone": "deepfm", "corruption": corruption, "full_below": 10, "labelled_share": 0.5}
    pretrained = spec_of(clicks, "ctr", "dgenctr_pretraining", parameters)
    checkpoint = same_on_both(pretrained, clicks)
    same_on_both(spec_of(clicks, "ctr", "dgenctr", start=pretrained), clicks, start=checkpoint)


def test_streamed_rows_and_gradients_of_touched_rows(interactions: PreparedDataset) -> None:
    parameters: Parameters = {"backbone": "deepfm", "embedding_updates": "touched_rows"}
    same_on_both(spec_of(interactions, "cold_start", "csdm", parameters, feed="stream"), interactions)


def test_the_device_refuses_tensors_of_the_cpu() -> None:
    with other_device() as device:
        there = torch.ones(3, device=device)
        with pytest.raises(RuntimeError, match="tensors of the CPU"):
            there + torch.ones(3)
        assert (there * torch.tensor(2.0)).tolist() == [2, 2, 2]


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(0) == CPU
    with pytest.raises(ClusterError, match="torch sees no GPU in this process; set gpus: 0"):
        device_of(0.5)


REPLACED = """
import torch, harness.devices
true = torch.linspace
torch.linspace = lambda *arguments, **named: true(*arguments, **named)
with torch.device("meta"):
    torch.empty(0)
torch.linspace = true
with torch.device("meta"):
    print(torch.linspace(0, 1, 3).device.type)
"""


def test_a_function_that_was_replaced_for_a_while_heeds_the_device_again() -> None:
    """As transformers replaces one while it loads weights, before a trial builds its method."""
    found = subprocess.run([sys.executable, "-c", REPLACED], check=True, capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "meta"
