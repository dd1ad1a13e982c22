"""The task `ctr` on a small generated dataset.

Legend: N rows of a split, R rows of the dataset.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from harness.datasets.click_split import click_contents
from harness.datasets.encoding import encode_categories
from harness.datasets.prepared import PreparedDataset
from harness.datasets.writing import write_prepared
from harness.errors import InputError, TestDataError
from harness.feed import open_rows
from harness.feeds import Feed
from harness.labelled_rows import LabelledRows
from harness.record import PLANTED
from harness.streamed_tables import in_parts
from harness.tasks import load_task
from harness.tasks.context import Component, Context, Outcome, Purpose
from harness.tasks.ctr import Ctr, CtrSettings
from tests.harness.click_log import write_click_log
from trainables.base import CtrBatch, CtrMethod, RowSource, Validate, no_log
from trainables.ctr.deepfm import DeepFM
from trainables.ctr.dgenctr import DGenCTR, DGenCTRPretraining
from trainables.ctr.supervised import Supervised

ROWS = 1500
FAST: dict[type[CtrMethod], dict[str, Any]] = {
    Supervised: {"batch_size": 128, "epochs": 3, "learning_rate": 0.01},
    DGenCTR: {"batch_size": 128, "epochs": 3, "learning_rate": 0.01},
    DGenCTRPretraining: {"batch_size": 128, "epochs": 2, "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    random = np.random.default_rng(0)
    user_R, item_R = random.integers(0, 30, ROWS), random.integers(0, 20, ROWS)
    label_R = ((user_R + item_R) % 2 == 0) ^ (random.random(ROWS) < 0.1)
    contents = click_contents(
        row_columns=(
            encode_categories("user_id", "user_id", user_R),
            encode_categories("item_id", "item_id", item_R),
            encode_categories("hour", "context", random.integers(0, 24, ROWS)),
        ),
        user_columns=(encode_categories("parity", "user", np.arange(30) % 2),),
        item_columns=(encode_categories("genre", "item", np.arange(20) % 4),),
        time_R=random.permutation(ROWS),
        label_R=label_R,
    )
    folder = tmp_path_factory.mktemp("prepared") / "clicks"
    return write_prepared(folder, contents, name="clicks", version=1, inputs=())


class Recording(CtrMethod):
    """Scores by the user's parity, and remembers the rows that it was given."""

    uses_unlabelled_rows = True
    given: list[CtrBatch]
    validated: float

    def fit(self, rows: RowSource, validate: Validate, *, seed: int, log: Any = no_log) -> int:
        Recording.given = list(rows.batches(10_000))
        Recording.validated = validate()
        return 3

    def forward(self, batch: CtrBatch) -> torch.Tensor:
        return (batch.columns["parity"] == batch.columns["genre"] % 2).float()


class LabelledOnly(Recording):
    uses_unlabelled_rows = False


def run(dataset: PreparedDataset, purpose: Purpose, method: type[CtrMethod] = Supervised, **given: Any) -> Outcome:
    settings = CtrSettings(**given.pop("settings", {}))
    plain = Context(
        method=Component(method, FAST.get(method, {})),
        components={"backbone": Component(DeepFM, {"dropout": 0.0})},
        settings=settings,
        dataset=dataset,
        purpose=purpose,
        seed=3,
        start=None,
        log=no_log,
    )
    return Ctr().run(replace(plain, **given))


def test_it_is_found_by_name() -> None:
    task = load_task("ctr")
    assert isinstance(task, Ctr) and task.primary == "validation/auc"


@pytest.mark.parametrize("split", ["time", "random"])
def test_a_repeat_measures_the_test_rows(dataset: PreparedDataset, split: str) -> None:
    outcome = run(dataset, "repeat", Recording, settings={"split": split, "evaluation_batch_size": 37})
    (rows,) = open_rows(dataset, f"{split}_test", "repeat").batches(10_000)
    score_N = Recording(DeepFM(dataset.fields))(rows)
    assert outcome.metrics["test/auc"] == pytest.approx(roc_auc_score(rows.label_B, score_N))
    expected = {*Ctr.metrics, "auc_standard_error"} - set(PLANTED)  # nothing is planted in these rows
    assert set(outcome.metrics) == {f"test/{name}" for name in expected}
    assert outcome.metrics["test/epochs"] == 3
    mean_K, share_K, rows_K = outcome.arrays["test/reliability"]
    assert rows_K.sum() == ROWS // 10 and len(mean_K) == 2
    by_hand = (rows_K * np.abs(mean_K - share_K)).sum() / rows_K.sum()
    assert outcome.metrics["test/ece"] == pytest.approx(by_hand)


def test_a_search_measures_the_validation_rows_and_cannot_open_the_test_rows(dataset: PreparedDataset) -> None:
    outcome = run(dataset, "search", Recording)
    assert outcome.metrics["validation/auc"] == Recording.validated
    assert not [name for name in outcome.metrics if name.startswith("test/")]
    with pytest.raises(TestDataError):
        open_rows(dataset, "time_test", "search")


class Watched(Recording):
    """Is in training mode whenever the task is not at work, and only scores outside of it."""

    def fit(self, rows: RowSource, validate: Validate, *, seed: int, log: Any = no_log) -> int:
        self.train()
        epochs = super().fit(rows, validate, seed=seed, log=log)
        self.train()
        return epochs

    def forward(self, batch: CtrBatch) -> torch.Tensor:
        assert not self.training
        return super().forward(batch)


def test_rows_are_scored_in_evaluation_mode(dataset: PreparedDataset) -> None:
    assert run(dataset, "repeat", Watched).metrics == run(dataset, "repeat", Recording).metrics


def test_the_log_loss_is_in_nats(dataset: PreparedDataset) -> None:
    outcome = run(dataset, "repeat", Recording)
    (rows,) = open_rows(dataset, "time_test", "repeat").batches(10_000)
    probability_N = torch.sigmoid(Recording(DeepFM(dataset.fields))(rows)).double()
    assert outcome.metrics["test/log_loss"] == pytest.approx(log_loss(rows.label_B, probability_N), rel=1e-5)


def test_a_share_of_labels_is_known(dataset: PreparedDataset) -> None:
    run(dataset, "repeat", Recording, settings={"labelled_share": 0.3})
    (hidden,) = Recording.given
    known_B = ~hidden.label_B.isnan()
    assert len(hidden) == ROWS * 8 // 10 and float(known_B.float().mean()) == pytest.approx(0.3, abs=0.05)
    run(dataset, "repeat", LabelledOnly, settings={"labelled_share": 0.3})
    (labelled,) = Recording.given
    assert torch.equal(labelled.label_B, hidden.label_B[known_B])
    assert torch.equal(labelled.columns["user_id"], hidden.columns["user_id"][known_B])
    run(dataset, "repeat", Recording)
    assert not bool(Recording.given[0].label_B.isnan().any())


def test_each_seed_knows_labels_of_its_own(dataset: PreparedDataset) -> None:
    known = []
    for seed in (3, 3, 4):
        run(dataset, "repeat", Recording, seed=seed, settings={"labelled_share": 0.3})
        known.append(~Recording.given[0].label_B.isnan())
    assert torch.equal(known[0], known[1]) and not torch.equal(known[0], known[2])


def test_a_share_of_labels_is_known_in_parts_too(dataset: PreparedDataset) -> None:
    parts = in_parts(dataset)
    run(parts, "repeat", Recording, settings={"labelled_share": 0.3})
    (hidden,) = Recording.given
    known_B = ~hidden.label_B.isnan()
    assert len(hidden) == ROWS * 8 // 10 and float(known_B.float().mean()) == pytest.approx(0.3, abs=0.05)
    run(parts, "repeat", LabelledOnly, settings={"labelled_share": 0.3})
    assert torch.equal(Recording.given[0].label_B, hidden.label_B[known_B])


def test_a_log_without_a_field_named_item_id_streams(tmp_path: Path) -> None:
    log = write_click_log(tmp_path / "log")
    outcome = run(log, "repeat", feed=Feed("stream"))
    assert outcome.metrics["test/auc"] > 0.6
    with pytest.raises(InputError, match=r"labelled_share 0\.5: needs the resident feed"):
        run(log, "repeat", feed=Feed("stream"), settings={"labelled_share": 0.5})


def test_what_is_known_at_a_share_is_known_at_larger_ones(dataset: PreparedDataset) -> None:
    rows = open_rows(dataset, "time_train", "repeat")
    few, many, other = (LabelledRows(rows, share, seed) for share, seed in ((0.1, 0), (0.4, 0), (0.4, 1)))
    known = [~next(iter(r.batches(10_000))).label_B.isnan() for r in (few, many, other)]
    assert bool((known[1] | ~known[0]).all()) and not torch.equal(known[1], known[2])
    shuffled = next(iter(many.batches(10_000, shuffle_seed=1)))
    assert len(many.labelled()) == int((~shuffled.label_B.isnan()).sum()) < len(many) == len(rows)


def test_the_stages_follow_each_other(dataset: PreparedDataset) -> None:
    first = run(dataset, "repeat", DGenCTRPretraining)
    assert first.checkpoint is not None
    second = run(dataset, "repeat", DGenCTR, start=first.checkpoint)
    again = run(dataset, "repeat", DGenCTR, start=first.checkpoint)
    assert second.metrics == again.metrics
    assert second.metrics["test/auc"] > 0.6
    with pytest.raises(ValueError, match=r"^DGenCTR starts from a pre-training; give its row `starts_from`$"):
        run(dataset, "repeat", DGenCTR)


def test_ordinary_training_learns(dataset: PreparedDataset) -> None:
    outcome = run(dataset, "repeat")
    assert outcome.metrics["test/auc"] > 0.7
    assert outcome.checkpoint is not None and "backbone.embeddings.item_ID" in outcome.checkpoint


def test_scores_that_are_not_finite(dataset: PreparedDataset) -> None:
    class Broken(Recording):
        def forward(self, batch: CtrBatch) -> torch.Tensor:
            return super().forward(batch) * torch.nan

    with pytest.raises(FloatingPointError, match="scores are not finite"):
        run(dataset, "repeat", Broken)


def test_the_share_is_above_nothing() -> None:
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match="labelled_share"):
            CtrSettings(labelled_share=share)
