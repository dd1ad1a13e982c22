"""The interfaces of a method, and the few types that cross them.

Legend: B rows of a batch, F embedded fields, N numeric fields, L positions of a sequence field or of a history,
D embedding size, I items, M items of a request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from annotated_types import Ge, Gt, Interval, Lt
from torch import Tensor, nn

from trainables.checkpoints import Checkpoints

# The ranges that constructors declare; whoever builds a method from text checks values against them.
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
BatchSize = Annotated[int, Ge(2)]  # where a batch of a single row is left out, nothing would train
Probability = Annotated[float, Interval(ge=0, le=1)]
DropoutRate = Annotated[float, Ge(0), Lt(1)]

FieldKind = Literal["category", "sequence", "number"]
FieldRole = Literal["user_id", "item_id", "user", "item", "context"]

Log = Callable[[str, float, int], None]
"""`log(name, value, step)`: one point of a curve. The step counts optimizer steps from the trial's start."""


def no_log(name: str, value: float, step: int) -> None:
    """Drop the point: the log of a caller that wants none."""


@dataclass(frozen=True)
class Field:
    """One input field.

    `size` is the vocabulary's, ids running from 0 to size-1; a sequence is padded with id 0, which stands for no
    word. A number has size 1. `length` is the number of positions of a sequence, 1 otherwise.
    """

    name: str
    kind: FieldKind
    size: int
    role: FieldRole
    length: int = 1


@dataclass(frozen=True)
class CtrBatch:
    """Rows of a click-through-rate dataset.

    `columns` by field name: category int32 [B], sequence int32 [B, L], number float32 [B]. `label_B` is float32,
    0 or 1.
    """

    columns: Mapping[str, Tensor]
    label_B: Tensor

    def __len__(self) -> int:
        return int(self.label_B.shape[0])


@dataclass(frozen=True)
class ItemTable:
    """Side information of every item: the columns of all fields with an item's role, row i for item id i."""

    columns: Mapping[str, Tensor]

    def select(self, item_M: Tensor) -> dict[str, Tensor]:
        """Return the columns' rows of these item ids."""
        index_M = item_M.long()
        return {name: column.index_select(0, index_M) for name, column in self.columns.items()}


class RowSource(Protocol):
    """A split of a click-through-rate dataset, resident or streamed."""

    @property
    def items(self) -> ItemTable:
        """The items as this split may know them."""

    def __len__(self) -> int: ...

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield all rows once, but for the first `skip` batches, the last one possibly short.

        Rows come in stored order without a seed.
        Where several workers share the rows, a worker gets its part of every batch, and with a seed all get the same
        number of batches.
        """

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""

    def item_quarters(self, seed: int) -> tuple[RowSource, RowSource, RowSource, RowSource]:
        """Return four equal quarters of every item's rows, the earliest rows first, the last one to three left out.

        One shuffle for all four: row k, in stored order, is of the same item in each.
        """


@dataclass(frozen=True)
class SequenceBatch:
    """Histories and their next items. Item ids start at 1; `history_BL` is padded on the right with 0.

    `user_B` tells whose they are, ids from 0, where every user is in training, as under leave-one-out. Where users are
    split, or are those of other data than a model began with, there is none.
    """

    history_BL: Tensor
    length_B: Tensor
    target_B: Tensor
    user_B: Tensor | None = None

    def __len__(self) -> int:
        return int(self.length_B.shape[0])

    def real_positions(self) -> Tensor:
        """Which positions hold an item, bool [B, L]."""
        position_L = torch.arange(self.history_BL.shape[1], device=self.history_BL.device)
        return position_L < self.length_B.unsqueeze(1)

    def ranked_last(self, scores_BI: Tensor) -> Tensor:
        """Return scores with −∞ for the items of each history, [B, I]."""
        row_N, position_N = self.real_positions().nonzero(as_tuple=True)
        item_N = self.history_BL[row_N, position_N].long() - 1
        ranked_BI = scores_BI.clone()
        ranked_BI[row_N, item_N] = -torch.inf
        return ranked_BI


class SequenceSource(Protocol):
    """A split of a next-item dataset."""

    def __len__(self) -> int: ...

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Iterator[SequenceBatch]:
        """Yield all examples once, the last batch possibly short; in stored order without a seed."""


@dataclass(frozen=True)
class FieldValues:
    """What a backbone sees of a batch: embedded categories and sequences, and the numbers as they are.

    `item_field` is the position of the item-ID embedding among the F fields.
    """

    embedded_BFD: Tensor
    numbers_BN: Tensor
    item_field: int

    def with_item(self, item_BD: Tensor) -> FieldValues:
        """Return the same values with other item-ID embeddings."""
        before, after = self.embedded_BFD[:, : self.item_field], self.embedded_BFD[:, self.item_field + 1 :]
        return replace(self, embedded_BFD=torch.cat([before, item_BD.unsqueeze(1), after], dim=1))

    def without_item(self) -> FieldValues:
        """Return the same values with zeros for item-ID embeddings."""
        return self.with_item(torch.zeros_like(self.embedded_BFD[:, self.item_field]))


class CtrModel(nn.Module, ABC):
    """A click-through-rate model that keeps its embeddings by field.

    A subclass is built as `Model(fields, **parameters)`. `embed` and `interact` are apart so that a method can
    change item-ID embeddings without gathering all other fields again.
    """

    fields: tuple[Field, ...]

    @abstractmethod
    def embed(self, batch: CtrBatch) -> FieldValues:
        """Gather the embeddings of a batch."""

    @abstractmethod
    def interact(self, values: FieldValues) -> Tensor:
        """Return logits [B]."""

    @property
    @abstractmethod
    def item_embedding(self) -> nn.Parameter:
        """The item-ID embeddings [I, D]."""

    def forward(self, batch: CtrBatch) -> Tensor:
        """Return logits [B]."""
        return self.interact(self.embed(batch))

    def item_to_logits(self, values: FieldValues) -> Callable[[Tensor], Tensor]:
        """Return the function from item-ID embeddings [B, D] to logits [B], all other values staying as they are.

        It gives what `interact(values.with_item(item_BD))` gives, up to rounding; a backbone overrides this where it
        can compute once what does not depend on the item. For a caller that tries many embeddings on one batch while
        the backbone is frozen: the function may hold on to the parameters as they were at this call.
        """
        return lambda item_BD: self.interact(values.with_item(item_BD))


class ColdStartMethod(nn.Module, ABC):
    """A way to give new items an ID embedding, around a backbone.

    Built as `Method(backbone, **parameters)`. The task runs the stages: `pretrain` (unless a pretrained backbone
    is loaded), `fit`, the cold evaluation after `generate`, then `adapt` and an evaluation for each warm block.
    """

    shares_pretraining: ClassVar[bool] = True
    """Whether the backbone is pretrained the ordinary way, so that methods may share one pretrained backbone."""

    def __init__(self, backbone: CtrModel) -> None:
        super().__init__()
        self.backbone = backbone
        self.checkpoints = Checkpoints()
        """Where training loops tell of their progress; the task may put others in this place."""

    @abstractmethod
    def pretrain(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the backbone on the hot items' rows."""

    @abstractmethod
    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train what the method adds, the backbone being pretrained."""

    @abstractmethod
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        """Return embeddings [M, D] for new items, or None to leave theirs as they are."""

    @abstractmethod
    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Learn from one warm block; `new_item_M` are all new items, whether or not the block has rows of them."""


Validate = Callable[[], float]
"""Scores the validation rows with the method as it is now, and returns its AUC."""


class CtrMethod(nn.Module, ABC):
    """A way to train a click-through-rate model. Built as `Method(backbone, **parameters)`.

    The task calls `start_from` where the trial starts from another, then `fit`, and ranks by `forward`.
    """

    uses_unlabelled_rows: ClassVar[bool] = False
    """Whether `fit` is given all rows, NaN standing for the labels that are hidden; else the labelled rows alone."""
    needs_start: ClassVar[bool] = False
    """Whether the method needs the checkpoint of a trial that it starts from."""

    def __init__(self, backbone: CtrModel) -> None:
        super().__init__()
        self.backbone = backbone
        self.checkpoints = Checkpoints()
        """Where training loops tell of their progress; the task may put others in this place."""

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over the checkpoint of the trial that this one starts from; by default, all of the backbone.

        Raises:
            ValueError: the checkpoint is of another backbone.
        """
        load_backbone(self.backbone, backbone_state(state))

    def checkpoint(self) -> dict[str, Tensor]:
        """Return what another trial may start from: the backbone's state under `backbone.`, and what else there is."""
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    @abstractmethod
    def fit(self, rows: RowSource, validate: Validate, *, seed: int, log: Log = no_log) -> int:
        """Train on the rows and return the number of epochs that the kept parameters had."""

    def forward(self, batch: CtrBatch) -> Tensor:
        """Return logits [B]."""
        logits_B: Tensor = self.backbone(batch)
        return logits_B


class NextItemRanker(nn.Module, ABC):
    """Ranks the next item after a history. Built as `Ranker(items, history_length, **parameters)`.

    A ranker whose constructor also takes `text_IE` (the items' text embeddings, float32), `attribute_IA` (their
    categories and brands, ids from 1, padded on the right with 0, int32) or `domain_I` (which of the datasets that are
    put together each is from, numbers from 0, int32), row i for item id i + 1, is given these.
    What it is given is no part of its state, so that a trained model can rank other items. One that takes `users` is
    given their number, or None where batches do not tell the user; then it does without. What batches tell that a
    ranker does not take, it leaves alone.

    What is no `NextItemModel` has nothing to train: it is prepared and evaluated.
    """

    def prepare(self, train: SequenceSource) -> None:
        """Compute what is needed of the training data before the first step, or at all; nothing by default.

        A model that starts from a checkpoint and trains from there is not prepared again, nor is one that was
        interrupted while it trained, so that what a `NextItemModel` computes here is part of its state.
        """

    @abstractmethod
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return scores [B, I], column j for item id j + 1; targets are not looked at."""


class NextItemModel(NextItemRanker):
    """A ranker that is trained by steps of its optimizer."""

    trains_from_start: ClassVar[bool] = False
    """Whether the model needs the checkpoint of a trial that it starts from, and trains from there."""
    tied_to_items: str = ""
    """Why what is trained on one dataset cannot rank another's items, with the remedy; empty where it can."""

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over the checkpoint of the trial that this one starts from; by default, all of it."""
        self.load_state_dict(state)

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer of this model's parameters."""

    @abstractmethod
    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the scalar training loss of a batch; noise comes from torch's global generator."""


def field_named(fields: Sequence[Field], name: str) -> Field:
    """Return the field of this name.

    Raises:
        KeyError: no field has the name.
    """
    for field in fields:
        if field.name == name:
            return field
    raise KeyError(f"no field {name!r} among {[field.name for field in fields]}")


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's part of a method's checkpoint."""
    prefix = "backbone."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_backbone(
    backbone: CtrModel, state: Mapping[str, Tensor], *, part: Callable[[str], bool] | None = None
) -> None:
    """Load a backbone's checkpoint, or the part of it whose names are chosen.

    Raises:
        ValueError: the checkpoint is of another backbone.
    """
    own = backbone.state_dict()
    chosen = {name: value for name, value in state.items() if part is None or part(name)}
    try:
        backbone.load_state_dict(own | chosen)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"the checkpoint to start from does not fit this backbone: {reason}") from None
    if not set(own) <= set(state):
        raise ValueError("the checkpoint to start from does not fit this backbone: parameters are missing in it")
