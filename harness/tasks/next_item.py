"""Next-item recommendation: which of all items a user takes next.

Legend: N histories of a split, B of a batch, I items.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from harness.datasets.encoder import TextPooling
from harness.datasets.item_text import ItemInput, TextSource, item_attributes, item_domains, item_text
from harness.devices import moved, sequences_on
from harness.errors import InputError
from harness.feed import ResidentSequences, open_sequences
from harness.metrics.ranking import ndcg_at, ranks, recall_at
from harness.record import INFERENCE, TEST_INFERENCE
from harness.seeding import derive_seed, torch_seeded
from harness.tasks.context import Context, Outcome
from trainables.base import NextItemModel, NextItemRanker, SequenceSource
from trainables.checkpoints import Loop, Place

CUTOFFS = (5, 10)


class NextItemSettings(BaseModel):
    """How a next-item model is trained and evaluated; the defaults are PreferDiff's.

    `patience` counts evaluations without a better Recall@5. `evaluation_batch_size` changes memory and speed, and
    scores in their last digits; where ranking draws noise, which is done for a batch at a time, a row may get other
    noise and so other scores: in DiffuRec, in DiffRec with `sampling_steps`, and in DreamRec and PreferDiff of a size
    that is no multiple of the 16 numbers that torch draws at once. `train` says whether to train; where it says
    nothing, a trial that starts from another one is evaluated only, unless its method is one that trains from there.
    `prefixes` takes every item of a training history but the first as a target too, after the items before it, as the
    programs of several baselines do; PreferDiff trains on the last item alone. What is prepared before training, or
    trains nothing, reads the histories as they are.
    `rank_history` ranks the items of the history like all others, as PreferDiff does; without it they come last, in
    validation too. `text_encoder`, `text_pooling` and `text_source` say where a model that needs the items' text has it
    from; see `harness.datasets.encoder` and `harness.datasets.item_text`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(default=256, gt=0)
    evaluation_batch_size: int = Field(default=256, gt=0)
    maximum_epochs: int = Field(default=150, gt=0)
    patience: int = Field(default=10, gt=0)
    validate_every: int = Field(default=1, gt=0)
    train: bool | None = None
    prefixes: bool = False
    rank_history: bool = True
    text_encoder: str = "minilm"
    text_pooling: TextPooling = "model"
    text_source: TextSource = "descriptions"


class NextItem:
    """Train with early stopping on validation Recall@5, then rank all items for every test history.

    Ranking is full: the items of the history stay in unless told otherwise, and ties count against the model. The
    parameters of the best epoch are the ones that are evaluated; a search stops there, a repeat goes on to the test
    split. A trial that starts from another one takes its parameters and only evaluates, for example with other
    guidance, unless its method or the setting `train` says that it trains on.

    Initialization, order, training noise, validation noise and test noise come from streams of their own, so that
    how often a model is evaluated does not change what its training draws. Nor does it change how a model trains, but
    for about 10⁻⁵ in its parameters where item embeddings move late (`LateRows`): an evaluation brings them all up to
    date, so that the way that one has missed, which is an approximation, is taken in two parts.

    Source: PreferDiff §4.1 and D.1 (user split, full ranking).
    """

    name = "next_item"
    version = 1
    primary = "validation/recall@5"
    metrics = (*(f"{name}@{cutoff}" for cutoff in CUTOFFS for name in ("recall", "ndcg")), INFERENCE)
    settings: type[BaseModel] = NextItemSettings
    base: type[Any] = NextItemRanker

    def run(self, context: Context) -> Outcome:
        """Run a trial; see the class.

        Returns:
            Metrics `validation/…`, for a repeat `test/…`: recall and ndcg at 5 and 10; `epochs` and `best_epoch`
            when it trained. Array `test/rank`: int32, each test user's 1-based rank of the target. The checkpoint,
            when it trained, is the best epoch's state. The note tells the items' text and attributes, where the model
            has them. A repeat logs the seconds of ranking the test split, after it ranked the validation split.

        Raises:
            InputError: the model trains from a trial that it starts from, and there is none; or that one had other
                items, and what is trained on some cannot rank others; or the dataset has not the items' text or
                attributes that the model needs.
            DataError: the dataset, or what was made of its text, is damaged or cannot be written.
            FloatingPointError: the training loss is not finite.
            ValueError: a split that is read has no rows.
        """
        inputs = _item_inputs(context)
        ranker = _build(context, inputs)
        metrics, trained = _made_ready(context, ranker)
        metrics |= _metrics("validation", _ranks(context, ranker, "validation"))
        arrays: dict[str, NDArray[Any]] = {}
        if context.purpose == "repeat":
            started = time.perf_counter()
            rank_N = _ranks(context, ranker, "test")
            context.log(TEST_INFERENCE, time.perf_counter() - started, 0)
            metrics |= _metrics("test", rank_N)
            arrays["test/rank"] = rank_N.int().numpy()
        note = "; ".join(item_input.note for item_input in inputs.values() if item_input.note)
        return Outcome(metrics, arrays, _state(ranker) if trained else None, note)


def _made_ready(context: Context, ranker: NextItemRanker) -> tuple[dict[str, float], bool]:
    """Train, take over or prepare what ranks; return what training measured, and whether it trained."""
    if not isinstance(ranker, NextItemModel):
        if context.start is not None:
            raise InputError(f"{type(ranker).__name__}: has nothing to take over; leave starts_from out of its row")
        _prepare(context, ranker, _train_rows(context))
        return {}, False
    trains = _trains(context, ranker)
    if context.starts_elsewhere and ranker.tied_to_items:
        raise InputError(f"{type(ranker).__name__}: {ranker.tied_to_items}")
    if context.start is not None:
        ranker.start_from(context.start)
    return (_Training(context, ranker).run() if trains else {}), trains


def _prepare(context: Context, ranker: NextItemRanker, train: SequenceSource) -> None:
    with torch_seeded(derive_seed(context.seed, "prepare")):
        ranker.prepare(train)


def _train_rows(context: Context, *, prefixes: bool = False) -> SequenceSource:
    train = _open(context, "train")
    if len(train) == 0:
        raise ValueError(f"{context.dataset.name}: the split train has no rows; prepare it again")
    return sequences_on(train.prefixes() if prefixes else train, context.device)


class _Training:
    """Epochs with early stopping; leaves the model with its best parameters."""

    def __init__(self, context: Context, model: NextItemModel) -> None:
        self.context = context
        self.settings = _settings(context)
        self.model = model
        self.progress = _Progress()

    def run(self) -> dict[str, float]:
        train = _train_rows(self.context)
        checkpoints, progress = self.context.follow(self.model), self.progress
        if self.context.start is None:
            checkpoints.once("prepare", lambda: _prepare(self.context, self.model, train))
        if self.settings.prefixes:
            train = _train_rows(self.context, prefixes=True)
        optimizer = self.model.optimizer()
        place = checkpoints.enter(Loop(self.model, [optimizer], progress)) or Place()
        epoch, before, step_before = place.epoch, place.epoch, progress.step
        while epoch < self.settings.maximum_epochs and progress.waited < self.settings.patience:
            epoch += 1
            self._epoch(train, optimizer, epoch)
            if epoch % self.settings.validate_every and epoch != self.settings.maximum_epochs:
                continue
            if progress.is_best(self._validate(), epoch):
                checkpoints.keep("best", self.model.state_dict())
            # Here alone: the model is as its validation left it, so that taking its state changes nothing in it.
            checkpoints.passed(Place(epoch), len(train) * (epoch - before), progress.step - step_before)
            before, step_before = epoch, progress.step
        checkpoints.leave()
        best = checkpoints.kept("best")
        assert best is not None, "the last epoch is validated"
        self.model.load_state_dict(best)
        return {"epochs": float(epoch), "best_epoch": float(progress.best_epoch)}

    def _epoch(self, train: SequenceSource, optimizer: torch.optim.Optimizer, epoch: int) -> None:
        seed, log = self.context.seed, self.context.log
        started, total, examples = time.perf_counter(), 0.0, 0
        self.model.train()
        with torch_seeded(derive_seed(seed, "training", epoch)):
            for batch in train.batches(self.settings.batch_size, shuffle_seed=derive_seed(seed, "order", epoch)):
                optimizer.zero_grad(set_to_none=True)
                loss = self.model.loss(batch)
                loss.backward()
                optimizer.step()
                self.progress.step += 1
                examples += len(batch)
                total += self._finite(loss.item(), epoch) * len(batch)
        log("train/loss", total / examples, self.progress.step)
        log("train/learning_rate", optimizer.param_groups[0]["lr"], self.progress.step)
        log("train/examples_per_second", examples / (time.perf_counter() - started), self.progress.step)

    def _finite(self, loss: float, epoch: int) -> float:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"training loss is {loss} in epoch {epoch}, step {self.progress.step}; lower learning_rate"
            )
        return loss

    def _validate(self) -> float:
        metrics = _metrics("validation", _ranks(self.context, self.model, "validation"))
        for name, value in metrics.items():
            self.context.log(name, value, self.progress.step)
        return metrics[NextItem.primary]


@dataclass
class _Progress:
    """What training counts; see `trainables.checkpoints.Progress`."""

    step: int = 0
    waited: int = 0
    best_epoch: int = 0
    best_recall: float = -math.inf

    def is_best(self, recall: float, epoch: int) -> bool:
        """Take note of a validation; tell whether it is the best so far."""
        self.waited += 1
        if recall <= self.best_recall:
            return False
        self.best_recall, self.best_epoch, self.waited = recall, epoch, 0
        return True

    def state(self) -> dict[str, float]:
        """Return the counts by name."""
        return asdict(self)

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from counts."""
        self.step, self.waited, self.best_epoch = (int(state[name]) for name in ("step", "waited", "best_epoch"))
        self.best_recall = state["best_recall"]


def _settings(context: Context) -> NextItemSettings:
    assert isinstance(context.settings, NextItemSettings)
    return context.settings


def _item_inputs(context: Context) -> dict[str, ItemInput]:
    """Return what the method's constructor takes of the items, by argument name."""
    settings, dataset = _settings(context), context.dataset
    sources: dict[str, Callable[[], ItemInput]] = {
        "text_IE": lambda: item_text(dataset, settings.text_encoder, settings.text_source, settings.text_pooling),
        "attribute_IA": lambda: item_attributes(dataset),
        "domain_I": lambda: item_domains(dataset),
    }
    wanted = inspect.signature(context.method.cls).parameters
    return {name: source() for name, source in sources.items() if name in wanted}


def _build(context: Context, inputs: Mapping[str, ItemInput]) -> NextItemRanker:
    schema = context.dataset.schema
    build: Callable[..., NextItemRanker] = context.method.cls
    arrays = {name: torch.from_numpy(item_input.value.copy()) for name, item_input in inputs.items()}
    tensors = moved(arrays, context.device)
    with torch_seeded(derive_seed(context.seed, "init")):
        return build(schema.items, schema.history_length, **tensors, **_users(context), **context.method.parameters)


def _users(context: Context) -> dict[str, int | None]:
    """Return the number of users for a method that takes it, None where batches do not tell them."""
    if "users" not in inspect.signature(context.method.cls).parameters:
        return {}
    return {"users": context.dataset.schema.users if _open(context, "train").tells_users else None}


def _trains(context: Context, model: NextItemModel) -> bool:
    if model.trains_from_start and context.start is None:
        raise InputError(f"{type(model).__name__}: trains from another trial; give its row starts_from")
    train = _settings(context).train
    return (context.start is None or model.trains_from_start) if train is None else train


@torch.inference_mode()
def _ranks(context: Context, ranker: NextItemRanker, split: str) -> Tensor:
    """Return the rank of each target of a split, int64 [N]."""
    source = sequences_on(_open(context, split), context.device)
    if len(source) == 0:
        raise ValueError(f"{context.dataset.name}: the split {split} has no rows; prepare it again")
    settings, rank_N = _settings(context), []
    ranker.eval()
    with torch_seeded(derive_seed(context.seed, split)):
        for batch in source.batches(settings.evaluation_batch_size):
            scores_BI = _no_nan(ranker.rank_scores(batch), split)
            rank_N.append(ranks(scores_BI if settings.rank_history else batch.ranked_last(scores_BI), batch.target_B))
    return torch.cat(rank_N).cpu()


def _open(context: Context, split: str) -> ResidentSequences:
    """Open a split; a trial that started on other data began with other users, so it has none."""
    sequences = open_sequences(context.dataset, split, context.purpose)
    return sequences.without_users() if context.starts_elsewhere else sequences


def _no_nan(scores_BI: Tensor, split: str) -> Tensor:
    if bool(scores_BI.isnan().any()):
        raise FloatingPointError(f"scores of {split} are nan; lower learning_rate")
    return scores_BI


def _metrics(split: str, rank_N: Tensor) -> dict[str, float]:
    metrics = {}
    for k in CUTOFFS:
        metrics[f"{split}/recall@{k}"] = recall_at(rank_N, k)
        metrics[f"{split}/ndcg@{k}"] = ndcg_at(rank_N, k)
    return metrics


def _state(ranker: NextItemRanker) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in ranker.state_dict().items()}
