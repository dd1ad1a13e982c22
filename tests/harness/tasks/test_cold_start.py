from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from harness import feeds
from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_interactions
from harness.errors import InputError
from harness.feed import open_rows
from harness.tasks.cold_start import STAGES, ColdStart, ColdStartSettings
from harness.tasks.context import Component, Context, Outcome, Purpose
from trainables.base import (
    ColdStartMethod,
    CtrBatch,
    CtrModel,
    Field,
    FieldValues,
    ItemTable,
    Log,
    RowSource,
    no_log,
)
from trainables.cold_start.bare import BareBackbone
from trainables.cold_start.csdm import CSDM
from trainables.cold_start.dropoutnet import DropoutNet
from trainables.cold_start.velf import VELF
from trainables.ctr.deepfm import DeepFM

SMALL: dict[type[ColdStartMethod], dict[str, Any]] = {
    BareBackbone: {"batch_size": 256},
    CSDM: {"batch_size": 256, "repetitions": 1, "stride": 25},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_small_interactions(tmp_path_factory.mktemp("prepared") / "small")


class TimeModel(CtrModel):
    """Its logit is the timestamp, so that every metric can be computed from the rows; no training changes that."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        super().__init__()
        self.fields = fields
        items = next(field.size for field in fields if field.role == "item_id")
        self.table_ID = nn.Parameter(torch.zeros(items, 1))

    def embed(self, batch: CtrBatch) -> FieldValues:
        return FieldValues(batch.columns["count"].view(-1, 1, 1), batch.columns["timestamp"].unsqueeze(1), 0)

    def interact(self, values: FieldValues) -> Tensor:
        return values.numbers_BN[:, 0]

    @property
    def item_embedding(self) -> nn.Parameter:
        return self.table_ID


class Recording(ColdStartMethod):
    """Learns nothing and remembers what it was given."""

    calls: list[tuple[Any, ...]]

    def __init__(self, backbone: CtrModel) -> None:
        super().__init__(backbone)
        self.calls = Recording.calls = []

    def pretrain(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        self.calls.append(("pretrain", base, seed, float(torch.rand(()))))

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        log("fit/loss", 0.5, 7)
        self.calls.append(("fit", base, seed, float(torch.rand(()))))

    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        self.calls.append(("generate", items, item_M))
        return torch.ones(len(item_M), 1)

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        self.calls.append(
            ("adapt", block, seed, float(torch.rand(())), new_item_M, self.backbone.item_embedding.clone())
        )


def context(
    dataset: PreparedDataset, purpose: Purpose, method: type[ColdStartMethod] = BareBackbone, **given: Any
) -> Context:
    plain = Context(
        method=Component(method, SMALL.get(method, {})),
        components={"backbone": Component(DeepFM, {})},
        settings=ColdStartSettings(),
        dataset=dataset,
        purpose=purpose,
        seed=3,
        start=None,
        log=no_log,
    )
    return replace(plain, **given)


def run(
    dataset: PreparedDataset, purpose: Purpose, method: type[ColdStartMethod] = BareBackbone, **given: Any
) -> Outcome:
    return ColdStart().run(context(dataset, purpose, method, **given))


def with_time_model(dataset: PreparedDataset, purpose: Purpose, **given: Any) -> Outcome:
    return run(dataset, purpose, Recording, components={"backbone": Component(TimeModel, {})}, **given)


def test_a_repeat_measures_the_test_rows(dataset: PreparedDataset) -> None:
    outcome = with_time_model(dataset, "repeat", settings=ColdStartSettings(evaluation_batch_size=37))
    batches = list(open_rows(dataset, "test", "repeat").batches(50))
    label_N = torch.cat([batch.label_B for batch in batches]).numpy()
    score_N = torch.sigmoid(torch.cat([batch.columns["timestamp"] for batch in batches])).numpy()
    for stage in STAGES:
        assert outcome.metrics[f"test/{stage}/auc"] == pytest.approx(roc_auc_score(label_N, score_N))
        assert outcome.metrics[f"test/{stage}/log_loss"] == pytest.approx(sklearn_log_loss(label_N, score_N), rel=1e-5)
        assert 0 < outcome.metrics[f"test/{stage}/auc_standard_error"] < 0.2
        for curve in ("roc", "pr"):
            points = outcome.arrays[f"test/{stage}/{curve}"]
            assert points.dtype == np.float32 and points.shape[0] == 2 and points.shape[1] <= 201
    assert {name.split("/")[0] for name in outcome.metrics} == {"test"}


class EvaluatedTimeModel(TimeModel):
    def interact(self, values: FieldValues) -> Tensor:
        assert not self.training
        return super().interact(values)


class LeftInTraining(Recording):
    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        self.train()

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        self.train()


def test_rows_are_scored_in_evaluation_mode(dataset: PreparedDataset) -> None:
    components = {"backbone": Component(EvaluatedTimeModel, {})}
    outcome = run(dataset, "repeat", LeftInTraining, components=components)
    assert outcome.metrics == with_time_model(dataset, "repeat").metrics


def test_a_search_measures_validation_rows_and_opens_no_other(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []

    def recorded(
        dataset: PreparedDataset, split: str, purpose: Purpose, *, count_splits: tuple[str, ...] | None
    ) -> Any:
        opened.extend((name, purpose) for name in (split, *(count_splits or ())))
        return open_rows(dataset, split, purpose, count_splits=count_splits)

    monkeypatch.setattr(feeds, "open_rows", recorded)
    outcome = run(dataset, "search", settings=ColdStartSettings(count="leak_free"))
    assert {name for name, _ in opened} == {f"validation_{name}" for name in ("base", *STAGES[1:], "test")}
    assert {purpose for _, purpose in opened} == {"search"}
    assert outcome.arrays == {}
    assert not any(name.startswith("test/") for name in outcome.metrics)
    stages = [outcome.metrics[f"validation/{stage}/auc"] for stage in STAGES]
    assert outcome.metrics["validation/auc"] == pytest.approx(sum(stages) / 4)


def test_the_stages_in_their_order(dataset: PreparedDataset) -> None:
    with_time_model(dataset, "repeat")
    calls = Recording.calls
    assert [call[0] for call in calls] == ["pretrain", "fit", "generate", "adapt", "adapt", "adapt"]
    splits = ["base", "base", "warm_a", "warm_b", "warm_c"]
    opened = [call[1] for call in calls if call[0] != "generate"]
    assert [len(rows) for rows in opened] == [dataset.schema.splits[name].rows for name in splits]
    new_item_M = calls[2][2]
    test_items = open_rows(dataset, "test", "repeat").distinct_items()
    assert set(test_items.tolist()) <= set(new_item_M.tolist())
    assert not set(new_item_M.tolist()) & set(open_rows(dataset, "base", "repeat").distinct_items().tolist())
    for call in calls[3:]:
        assert torch.equal(call[4], new_item_M)
        assert torch.equal(call[5].flatten().nonzero().flatten(), new_item_M)


def test_counts_without_the_leak_know_what_was_seen_so_far(dataset: PreparedDataset) -> None:
    with_time_model(dataset, "repeat", settings=ColdStartSettings(count="leak_free"))
    calls, new_item_M = Recording.calls, Recording.calls[2][2]
    seen = [calls[2][1].columns["count"], *(call[1].items.columns["count"] for call in calls[3:])]
    assert float(seen[0][new_item_M].abs().max()) == 0
    largest = max(dataset.schema.facts.get("largest_count", 0), 1)
    block = len(calls[3][1]) / len(new_item_M)
    for blocks, count_I in enumerate(seen):
        assert float(count_I[new_item_M].mean()) == pytest.approx(blocks * block / largest, rel=1e-4)
    with_time_model(dataset, "repeat")
    leaky_I = Recording.calls[2][1].columns["count"]
    assert bool((leaky_I[new_item_M] > seen[3][new_item_M]).all())


@pytest.mark.parametrize("method", [BareBackbone, CSDM])
def test_the_same_seed_gives_the_same_bits(dataset: PreparedDataset, method: type[ColdStartMethod]) -> None:
    first, second = run(dataset, "repeat", method), run(dataset, "repeat", method)
    assert first.metrics == second.metrics
    assert run(dataset, "repeat", method, seed=4).metrics != first.metrics


def test_a_loaded_checkpoint_gives_what_pretraining_in_place_gives(dataset: PreparedDataset) -> None:
    start = run(dataset, "repeat").checkpoint
    assert start is not None
    started = run(dataset, "repeat", CSDM, start=start)
    assert started.checkpoint is None
    assert started.metrics == run(dataset, "repeat", CSDM).metrics


def test_the_checkpoint_is_the_backbone_right_after_pretraining(dataset: PreparedDataset) -> None:
    bare, csdm = run(dataset, "repeat").checkpoint, run(dataset, "repeat", CSDM).checkpoint
    assert bare is not None and csdm is not None
    assert bare.keys() == csdm.keys()
    assert all(torch.equal(bare[name], csdm[name]) for name in bare)


def test_methods_with_a_seed_share_order_and_streams(dataset: PreparedDataset) -> None:
    with_time_model(dataset, "repeat")
    first = [call[2:4] for call in Recording.calls if call[0] != "generate"]
    run(dataset, "repeat", Recording)
    assert [call[2:4] for call in Recording.calls if call[0] != "generate"] == first
    assert len({seed for seed, _ in first}) == 5
    run(dataset, "repeat", Recording, seed=4)
    assert Recording.calls[0][2:4] != first[0]


def test_stage_aucs_are_logged_at_the_last_step(dataset: PreparedDataset) -> None:
    points: list[tuple[str, float, int]] = []
    outcome = with_time_model(dataset, "repeat", log=lambda *point: points.append(point))
    stages = [(name, value, step) for name, value, step in points if name.startswith("test/")]
    assert stages == [(f"test/{stage}/auc", outcome.metrics[f"test/{stage}/auc"], 7) for stage in STAGES]


def test_methods_learn_the_planted_signal(dataset: PreparedDataset) -> None:
    quick = {"batch_size": 64, "learning_rate": 0.01, "epochs": 8, "adapt_learning_rate": 0.02}
    generator = {"generator_learning_rate": 0.01, "repetitions": 2, "stride": 25}
    bare = ColdStart().run(replace(context(dataset, "repeat"), method=Component(BareBackbone, quick)))
    started = context(dataset, "repeat", start=bare.checkpoint)
    csdm = ColdStart().run(replace(started, method=Component(CSDM, {**quick, **generator})))
    assert bare.metrics["test/warm_c/auc"] > 0.65
    assert csdm.metrics["test/warm_c/auc"] > 0.65


class Diverging(TimeModel):
    def interact(self, values: FieldValues) -> Tensor:
        return values.numbers_BN[:, 0] * torch.nan


def test_scores_that_are_not_finite_are_an_error(dataset: PreparedDataset) -> None:
    with pytest.raises(FloatingPointError, match="cold: scores are not finite"):
        run(dataset, "repeat", Recording, components={"backbone": Component(Diverging, {})})


def test_a_loss_that_is_not_finite_is_an_error(dataset: PreparedDataset) -> None:
    class Broken(DeepFM):
        def interact(self, values: FieldValues) -> Tensor:
            return super().interact(values) * torch.nan

    with pytest.raises(FloatingPointError, match="pretrain: the loss is nan at step 1"):
        run(dataset, "search", components={"backbone": Component(Broken, {})})


class Emptied:
    def __init__(self, rows: Any) -> None:
        self._rows, self.items = rows, rows.items

    def __len__(self) -> int:
        return 0

    def distinct_items(self) -> Tensor:
        found: Tensor = self._rows.distinct_items()
        return found


@pytest.mark.parametrize(
    ("split", "message"), [("warm_b", "adapt: no rows to train on"), ("test", "cold: no test rows")]
)
def test_an_empty_split_is_an_error(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch, split: str, message: str
) -> None:
    def opened(dataset: PreparedDataset, name: str, purpose: Purpose, **options: Any) -> Any:
        rows = open_rows(dataset, name, purpose, **options)
        return Emptied(rows) if name == split else rows

    monkeypatch.setattr(feeds, "open_rows", opened)
    with pytest.raises(ValueError, match=message):
        run(dataset, "repeat")


def test_a_checkpoint_of_another_backbone_is_refused(dataset: PreparedDataset) -> None:
    start: Mapping[str, Tensor] = {"weight": torch.ones(2)}
    with pytest.raises(ValueError, match=r"checkpoint .* does not fit this backbone"):
        run(dataset, "repeat", start=start)


@pytest.mark.parametrize("method", [VELF, DropoutNet])
def test_a_method_with_its_own_pretraining_is_refused_another_s(
    dataset: PreparedDataset, method: type[ColdStartMethod]
) -> None:
    start: Mapping[str, Tensor] = DeepFM(dataset.fields).state_dict()
    with pytest.raises(InputError, match=rf"^{method.__name__} pretrains its own way, .*; leave starts_from out"):
        run(dataset, "repeat", method, start=start)


class OnePositive:
    """Rows of which the first alone is positive."""

    def __init__(self, rows: Any) -> None:
        self._rows, self.items = rows, rows.items

    def __len__(self) -> int:
        return len(self._rows)

    def distinct_items(self) -> Tensor:
        found: Tensor = self._rows.distinct_items()
        return found

    def batches(self, batch_size: int) -> Iterator[CtrBatch]:
        for number, batch in enumerate(self._rows.batches(batch_size)):
            label_B = torch.zeros_like(batch.label_B)
            label_B[0] = float(number == 0)
            yield CtrBatch(batch.columns, label_B)


def test_an_auc_without_an_error_of_it_is_a_result(dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeLong's error needs two rows of each class."""

    def opened(dataset: PreparedDataset, name: str, purpose: Purpose, **options: Any) -> Any:
        rows = open_rows(dataset, name, purpose, **options)
        return OnePositive(rows) if name == "test" else rows

    monkeypatch.setattr(feeds, "open_rows", opened)
    metrics = with_time_model(dataset, "repeat").metrics
    assert all(np.isfinite(value) for value in metrics.values())
    assert {name.split("/")[2] for name in metrics} == {"auc", "log_loss"}


class OneItemFewer(OnePositive):
    """Rows of all items but the first."""

    def distinct_items(self) -> Tensor:
        return super().distinct_items()[1:]


def test_an_item_without_a_test_row_is_new_too(dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(dataset: PreparedDataset, name: str, purpose: Purpose, **options: Any) -> Any:
        rows = open_rows(dataset, name, purpose, **options)
        return OneItemFewer(rows) if name == "test" else rows

    with_time_model(dataset, "repeat")
    expected = Recording.calls[2][2]
    monkeypatch.setattr(feeds, "open_rows", opened)
    with_time_model(dataset, "repeat")
    assert torch.equal(Recording.calls[2][2], expected)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        ColdStartSettings.model_validate({"cuont": "paper"})
    with pytest.raises(ValueError, match="greater than 0"):
        ColdStartSettings(evaluation_batch_size=0)
