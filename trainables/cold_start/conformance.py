"""Checks that every cold-start method passes around every backbone, for methods outside the package too.

    from trainables.cold_start.conformance import CHECKS

    @pytest.mark.parametrize("check", CHECKS)
    def test_conformance(check):
        check(lambda fields: MyMethod(DeepFM(fields), weight_decay=0.0, batch_size=16))

`build(fields)` gives a new method, drawn from torch's global generator. Build it without weight decay (which moves the
embeddings of items not seen, as the protocol has it) and with batches of about 16 rows, and give expensive loops their
smallest size: the checks are about what happens, not about how well. A check that fails raises an AssertionError that
says what was expected.

Legend: B rows, I items, M items of a request, L positions of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainables.base import ColdStartMethod, CtrBatch, Field, ItemTable

USERS, ITEMS = 9, 12
FIELDS = (
    Field("user_id", "category", USERS, "user_id"),
    Field("age", "category", 3, "user"),
    Field("item_id", "category", ITEMS, "item_id"),
    Field("year", "category", 4, "item"),
    Field("title", "sequence", 7, "item", 3),
    Field("timestamp", "number", 1, "context"),
    Field("count", "number", 1, "item"),
)
HOT, NEW = range(8), range(8, 12)
NOTHING_KNOWN = 11
"""A new item whose title is all padding, whose year is the first, and whose count is 0."""

Build = Callable[[tuple[Field, ...]], ColdStartMethod]


@dataclass(frozen=True)
class RowsInMemory:
    """Rows in memory, in the order of time: a `RowSource`."""

    batch: CtrBatch
    items: ItemTable

    def __len__(self) -> int:
        return len(self.batch)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield all rows once, but for the first `skip` batches, the last one possibly short."""
        for index_B in self._order(shuffle_seed).split(batch_size)[skip:]:
            if len(index_B):
                yield self._chosen(index_B)

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""
        item_M: Tensor = torch.unique(self.batch.columns["item_id"].long())
        return item_M

    def item_quarters(self, seed: int) -> tuple[RowsInMemory, RowsInMemory, RowsInMemory, RowsInMemory]:
        """Return four equal quarters of every item's rows by time, aligned by item; see `RowSource`."""
        quarters: list[list[Tensor]] = [[], [], [], []]
        for item in self.distinct_items():
            row_B = (self.batch.columns["item_id"] == item).nonzero().flatten()
            for quarter, index_B in zip(quarters, row_B[: len(row_B) // 4 * 4].chunk(4), strict=False):
                quarter.append(index_B)
        first, second, third, fourth = (self._shuffled(torch.cat(quarter), seed) for quarter in quarters)
        return first, second, third, fourth

    def _shuffled(self, index_B: Tensor, seed: int) -> RowsInMemory:
        rows = replace(self, batch=self._chosen(index_B))
        return replace(self, batch=rows._chosen(rows._order(seed)))

    def _order(self, seed: int | None) -> Tensor:
        if seed is None:
            return torch.arange(len(self))
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))

    def _chosen(self, index_B: Tensor) -> CtrBatch:
        columns = {name: column[index_B] for name, column in self.batch.columns.items()}
        return CtrBatch(columns, self.batch.label_B[index_B])


def item_table() -> ItemTable:
    """Return side information of the twelve items."""
    item_I = torch.arange(ITEMS, dtype=torch.int32)
    title_IL = torch.stack([1 + item_I % 6, (item_I % 2) * (1 + item_I % 3), torch.zeros_like(item_I)], dim=1)
    columns = {"item_id": item_I, "year": item_I % 4, "title": title_IL, "count": item_I / ITEMS}
    for name in ("year", "title", "count"):
        columns[name][NOTHING_KNOWN] = 0
    return ItemTable(columns)


def rows_of(items: range, rows: int = 48, *, seed: int = 0, label: float | None = None) -> RowsInMemory:
    """Return rows of these items; labels at random, or all the same."""
    generator = torch.Generator().manual_seed(seed)
    user_B = torch.randint(USERS, (rows,), generator=generator, dtype=torch.int32)
    item_B = torch.randint(items.start, items.stop, (rows,), generator=generator, dtype=torch.int32)
    columns = {"user_id": user_B, "age": user_B % 3, "timestamp": torch.linspace(0, 1, rows)}
    table = item_table()
    columns |= table.select(item_B)
    random_B = torch.randint(2, (rows,), generator=generator).float()
    return RowsInMemory(CtrBatch(columns, random_B if label is None else torch.full((rows,), label)), table)


def check_that_generated_embeddings_have_their_shape(build: Build) -> None:
    """`generate` returns None or finite embeddings [M, D] without a graph, for one item as for many."""
    with _seeded(0):
        method = build(FIELDS)
        method.pretrain(rows_of(HOT), seed=0)
        method.fit(rows_of(HOT), seed=0)
    size = method.backbone.item_embedding.shape[1]
    for item_M in (torch.tensor(NEW), torch.tensor(NEW)[:1]):
        embedding_MD = method.generate(item_table(), item_M)
        if embedding_MD is not None:
            found = tuple(embedding_MD.shape)
            _expect(found == (len(item_M), size), f"generate returned {found}, not ({len(item_M)}, {size})")
            _expect(not embedding_MD.requires_grad, "generate returned a tensor that still has its graph")
            _expect_finite(embedding_MD, "generated embeddings")


def check_that_a_seed_decides_the_result(build: Build) -> None:
    """The same seed gives the same bits, another seed another result."""
    first, again, other = (_adapted(build, seed).state_dict() for seed in (0, 0, 1))
    different = [name for name, tensor in first.items() if not torch.equal(tensor, again[name])]
    _expect(not different, f"the same seed gave another result in {different[:3]}")
    same = all(torch.equal(tensor, other[name]) for name, tensor in first.items() if tensor.is_floating_point())
    _expect(not same, "another seed gave the same result")


def check_that_a_stage_touches_only_what_it_may(build: Build) -> None:
    """`fit` and `generate` leave the backbone's parameters alone; `adapt` changes its item-ID embeddings alone.

    Normalization statistics, which are no parameters, may move while something trains. `generate` changes nothing.
    All parameters require gradients afterwards and hold none.
    """
    with _seeded(0):
        method = build(FIELDS)
        before = _copied(method)
        method.pretrain(rows_of(HOT), seed=0)
        _expect("item_embedding" in _changed(method, before), "pretrain left the item-ID embeddings as they were")
        if method.shares_pretraining:
            own = _changed(method, before) - set(_names(method))
            _expect(not own, f"pretrain changed {sorted(own)[:3]}, but the pretrained backbone alone is shared")
        before = _copied(method)
        method.fit(rows_of(HOT), seed=0)
        touched = _changed(method, before) & set(_names(method))
        _expect(not touched, f"fit changed the backbone's {sorted(touched)[:3]}")
        before, state = _copied(method), {name: tensor.clone() for name, tensor in method.state_dict().items()}
        method.generate(item_table(), torch.tensor(NEW))
        moved = [name for name, tensor in method.state_dict().items() if not torch.equal(tensor, state[name])]
        _expect(not moved, f"generate changed {moved[:3]}")
        method.adapt(rows_of(NEW, 24), torch.tensor(NEW), seed=0)
        touched = _changed(method, before) & set(_names(method))
        _expect(touched == {"item_embedding"}, f"adapt changed the backbone's {sorted(touched)}, not item_embedding")
    for name, parameter in method.named_parameters():
        _expect(parameter.requires_grad, f"{name} was left without gradients")
        _expect(parameter.grad is None, f"{name} was left with a gradient")


def check_that_hot_items_are_left_alone(build: Build) -> None:
    """After pretraining no stage changes the item-ID embedding of an item that is neither new nor in the block."""
    with _seeded(0):
        method = build(FIELDS)
        method.pretrain(rows_of(HOT), seed=0)
        before_MD = method.backbone.item_embedding.detach()[list(HOT)].clone()
        _cold(method, seed=0)
        for stage in range(3):
            method.adapt(rows_of(NEW, 24, seed=stage), torch.tensor(NEW), seed=stage)
    moved = (method.backbone.item_embedding.detach()[list(HOT)] - before_MD).abs().amax(dim=1).nonzero().flatten()
    _expect(len(moved) == 0, f"the embeddings of hot items {moved.tolist()} moved; was it built without weight decay?")


def check_that_a_block_of_one_class_is_survived(build: Build) -> None:
    """Blocks whose labels are all 0 or all 1 leave finite parameters and finite scores."""
    method = _fitted(build, seed=0)
    with _seeded(0):
        for label in (0.0, 1.0):
            method.adapt(rows_of(NEW, 24, label=label), torch.tensor(NEW), seed=0)
            _expect_finite_method(method, f"after a block whose labels are all {label:.0f}")


def check_that_an_item_without_side_information_gets_an_embedding(build: Build) -> None:
    """An item whose sequences are all padding, and a new item without a row in the block, cause no trouble."""
    method = _fitted(build, seed=0)
    with _seeded(0):
        embedding_MD = method.generate(item_table(), torch.tensor([NOTHING_KNOWN]))
        if embedding_MD is not None:
            _expect_finite(embedding_MD, "the embedding of an item without side information")
        method.adapt(rows_of(range(NOTHING_KNOWN, NOTHING_KNOWN + 1), 24), torch.tensor(NEW), seed=0)
    _expect_finite_method(method, "after a block with rows of one item alone")


def check_that_no_rows_are_an_error(build: Build) -> None:
    """`pretrain` and `adapt` without a row raise a ValueError of one line that says so."""
    method = _fitted(build, seed=0)
    stages: dict[str, Callable[[], None]] = {
        "pretrain": lambda: method.pretrain(rows_of(HOT, 0), seed=0),
        "adapt": lambda: method.adapt(rows_of(NEW, 0), torch.tensor(NEW), seed=0),
    }
    for stage, learn in stages.items():
        try:
            learn()
        except ValueError as error:
            message = str(error)
            _expect("no rows" in message and "\n" not in message, f"{stage} without rows says {message!r}")
        else:
            raise AssertionError(f"{stage} without rows raised no ValueError")


def check_that_a_last_batch_of_one_row_is_survived(build: Build) -> None:
    """Row counts that leave one row for the last batch do not stop normalization layers."""
    with _seeded(0):
        method = build(FIELDS)
        method.pretrain(rows_of(HOT, 49), seed=0)
        method.fit(rows_of(HOT, 49), seed=0)
        method.adapt(rows_of(NEW, 17), torch.tensor(NEW), seed=0)
    _expect_finite_method(method, "after last batches of one row")


CHECKS: tuple[Callable[[Build], None], ...] = (
    check_that_generated_embeddings_have_their_shape,
    check_that_a_seed_decides_the_result,
    check_that_a_stage_touches_only_what_it_may,
    check_that_hot_items_are_left_alone,
    check_that_a_block_of_one_class_is_survived,
    check_that_an_item_without_side_information_gets_an_embedding,
    check_that_no_rows_are_an_error,
    check_that_a_last_batch_of_one_row_is_survived,
)
"""All of them; each takes a `Build`."""


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generator at a seed, and put its state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _fitted(build: Build, seed: int) -> ColdStartMethod:
    with _seeded(seed):
        method = build(FIELDS)
        method.pretrain(rows_of(HOT), seed=seed)
        _cold(method, seed)
        return method


def _cold(method: ColdStartMethod, seed: int) -> None:
    """Do what the task does before the cold evaluation."""
    method.fit(rows_of(HOT), seed=seed)
    embedding_MD = method.generate(item_table(), torch.tensor(NEW))
    if embedding_MD is not None:
        with torch.no_grad():
            method.backbone.item_embedding[list(NEW)] = embedding_MD


def _adapted(build: Build, seed: int) -> ColdStartMethod:
    method = _fitted(build, seed)
    with _seeded(seed):
        method.adapt(rows_of(NEW, 24), torch.tensor(NEW), seed=seed)
        return method


def _names(method: ColdStartMethod) -> dict[str, Tensor]:
    """Return the backbone's parameters by name, the item-ID embeddings under a name of their own."""
    item = method.backbone.item_embedding
    return {
        "item_embedding" if parameter is item else name: parameter
        for name, parameter in method.backbone.named_parameters()
    }


def _parameters(method: ColdStartMethod) -> dict[str, Tensor]:
    of_backbone = {id(parameter) for parameter in method.backbone.parameters()}
    own = {name: parameter for name, parameter in method.named_parameters() if id(parameter) not in of_backbone}
    return _names(method) | own


def _copied(method: ColdStartMethod) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in _parameters(method).items()}


def _changed(method: ColdStartMethod, before: dict[str, Tensor]) -> set[str]:
    after = _parameters(method)
    return {name for name, parameter in after.items() if not torch.equal(parameter, before[name])}


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _expect_finite(tensor: Tensor, what: str) -> None:
    _expect(bool(tensor.isfinite().all()), f"{what}: not finite")


@torch.no_grad()
def _expect_finite_method(method: ColdStartMethod, when: str) -> None:
    tensors: Iterable[tuple[str, Tensor]] = method.state_dict().items()
    for name, tensor in tensors:
        _expect_finite(tensor, f"{when}, {name}")
    _expect_finite(method.backbone.eval()(rows_of(range(ITEMS)).batch), f"{when}, scores")
