"""Checks that every next-item method passes, for methods outside the package too.

    from trainables.next_item.conformance import CHECKS

    @pytest.mark.parametrize("check", CHECKS)
    def test_conformance(check):
        check(lambda items, history_length: MyMethod(items, history_length, size=16))

A ranker that has nothing to train, one that is no `NextItemModel`, takes `RANKING_CHECKS` in place of `CHECKS`. A
method that takes `users` passes them twice, built with `users=USERS` and without; and built without, as any other, it
passes `check_that_users_it_does_not_know_are_left_alone`.

`build(items, history_length)` gives a new method, drawn from torch's global generator; it hands features of the items
(texts, attributes) to a method that wants some: rows for `items` items, the same at every call. Build it without weight
decay, and give expensive loops their smallest size: the checks are about what happens, not about how well. A check that
fails raises an AssertionError that says what was expected.

Legend: B histories, L positions, I items.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.base import NextItemModel, NextItemRanker, SequenceBatch

ITEMS, LENGTH, USERS = 40, 6, 64
SEEN = 30
"""Items above this id do not occur in the rows that the checks train on."""

STEPS = 8
"""Optimizer steps that training takes here."""

Build = Callable[[int, int], NextItemModel]
BuildRanker = Callable[[int, int], NextItemRanker]
Ranker = TypeVar("Ranker", bound=NextItemRanker)


@dataclass(frozen=True)
class SequencesInMemory:
    """Sequences in memory: a `SequenceSource`."""

    batch: SequenceBatch

    def __len__(self) -> int:
        return len(self.batch)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Iterator[SequenceBatch]:
        """Yield all examples once, the last batch possibly short; in stored order without a seed."""
        order_B = torch.arange(len(self))
        if shuffle_seed is not None:
            order_B = torch.randperm(len(self), generator=torch.Generator().manual_seed(shuffle_seed))
        for index_B in order_B.split(batch_size):
            if len(index_B):
                yield chosen(self.batch, index_B)


def histories(rows: int, items: int = SEEN, length: int = LENGTH, *, seed: int = 0) -> SequenceBatch:
    """Return histories of ids 1 … `items`, lengths from 1 to `length` among them, and targets; all int32.

    Each is of a user of its own, as long as there are some.
    """
    generator = torch.Generator().manual_seed(seed)
    length_B = torch.randint(1, length + 1, (rows,), generator=generator, dtype=torch.int32)
    length_B[:2] = torch.tensor([1, length], dtype=torch.int32)[:rows]
    history_BL = torch.randint(1, items + 1, (rows, length), generator=generator, dtype=torch.int32)
    history_BL *= torch.arange(length) < length_B.unsqueeze(1)
    target_B = torch.randint(1, items + 1, (rows,), generator=generator, dtype=torch.int32)
    return SequenceBatch(history_BL, length_B, target_B, torch.arange(rows, dtype=torch.int32) % USERS)


def chosen(batch: SequenceBatch, index_B: Tensor) -> SequenceBatch:
    """Return these rows of a batch."""
    user_B = None if batch.user_B is None else batch.user_B[index_B]
    return SequenceBatch(batch.history_BL[index_B], batch.length_B[index_B], batch.target_B[index_B], user_B)


def check_that_scores_have_their_shape(build: BuildRanker) -> None:
    """`rank_scores` gives one number an item, never nan, without a graph, for one history as for many."""
    model = _trained(build, seed=0)
    for rows in (1, 7):
        scores_BI = _scores(model, histories(rows))
        found = tuple(scores_BI.shape)
        _expect(found == (rows, ITEMS), f"rank_scores returned {found}, not ({rows}, {ITEMS})")
        _expect_no_nan(scores_BI, f"scores of {rows} histories")


def check_that_padding_does_not_leak(build: BuildRanker) -> None:
    """What lies beyond a history's length changes neither scores nor, in evaluation mode, the loss."""
    model, batch = _trained(build, seed=0), histories(9)
    padded_BL = torch.arange(LENGTH) >= batch.length_B.unsqueeze(1)
    filled = replace(batch, history_BL=torch.where(padded_BL, batch.target_B.unsqueeze(1), batch.history_BL))
    _expect_close(_scores(model, filled), _scores(model, batch), "scores changed with ids beyond the history's length")
    if not isinstance(model, NextItemModel):
        return
    losses = []
    for each in (batch, filled):
        with _seeded(1), torch.no_grad():
            losses.append(model.loss(each))
    _expect_close(losses[1], losses[0], "the loss changed with ids beyond the history's length")


def check_that_scores_follow_the_batch(build: BuildRanker) -> None:
    """A permutation of the histories permutes the scores, and one alone has the scores that it has among others.

    Noise is the same for every row here, whatever draws it.
    """
    model, batch = _trained(build, seed=0), histories(9)
    order_B = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    with SameNoiseInEveryRow():
        scores_BI = _scores(model, batch)
        permuted_BI = _scores(model, chosen(batch, order_B))
        alone_BI = torch.cat([_scores(model, chosen(batch, torch.tensor([row]))) for row in range(9)])
    _expect_close(permuted_BI, scores_BI[order_B], "permuted histories have other scores")
    _expect_close(alone_BI, scores_BI, "a history alone has other scores than among others")


def check_that_targets_are_not_looked_at(build: BuildRanker) -> None:
    """`rank_scores` gives the same with other targets, and leaves the batch as it was."""
    model, batch = _trained(build, seed=0), histories(9)
    before = chosen(batch, torch.arange(len(batch)))
    scores_BI = _scores(model, batch)
    others = replace(batch, target_B=1 + batch.target_B % ITEMS)
    _expect(torch.equal(_scores(model, others), scores_BI), "scores changed with the targets")
    if isinstance(model, NextItemModel):
        with _seeded(0), torch.no_grad():
            model.train().loss(batch)
    for name in ("history_BL", "length_B", "target_B", "user_B"):
        _expect(torch.equal(getattr(batch, name), getattr(before, name)), f"{name} of the batch was written to")


def check_that_a_seed_decides_the_result(build: Build) -> None:
    """The same seed gives the same bits of parameters and scores, another seed others."""
    first, again, other = (_trained(build, seed) for seed in (0, 0, 1))
    states = first.state_dict(), again.state_dict(), other.state_dict()
    different = [name for name, tensor in states[0].items() if not torch.equal(tensor, states[1][name])]
    _expect(not different, f"the same seed gave another result in {different[:3]}")
    batch = histories(9)
    _expect(torch.equal(_scores(first, batch), _scores(again, batch)), "the same seed gave other scores")
    _expect(not torch.equal(_scores(first, batch), _scores(other, batch)), "another seed gave the same scores")


def check_that_a_seed_decides_the_scores(build: BuildRanker) -> None:
    """What is built and prepared with the same seed ranks alike."""
    first, again = (_trained(build, seed=0) for _ in range(2))
    batch = histories(9)
    _expect(torch.equal(_scores(first, batch), _scores(again, batch)), "the same seed gave other scores")


def check_that_a_state_holds_everything(build: Build) -> None:
    """A new method ranks like the trained one whose state it takes over."""
    model, batch = _trained(build, seed=0), histories(9)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with _seeded(1):
        other = build(ITEMS, LENGTH)
    other.load_state_dict(state)
    _expect(torch.equal(_scores(other, batch), _scores(model, batch)), "a loaded state gave other scores")


def check_that_training_goes_on_from_a_state(build: Build) -> None:
    """A new method trains on as the one whose state, and whose optimizer's state, it takes over: the same bits."""
    with _seeded(0):
        first = build(ITEMS, LENGTH)
        optimizer = _train(first, histories(64), steps=STEPS)
    first.eval()
    buffer = io.BytesIO()
    torch.save((first.state_dict(), optimizer.state_dict()), buffer)
    buffer.seek(0)
    model_state, optimizer_state = torch.load(buffer, weights_only=True)
    with _seeded(0):
        second = build(ITEMS, LENGTH)
        second.prepare(SequencesInMemory(histories(64)))
    second.load_state_dict(model_state)
    renewed = second.optimizer()
    renewed.load_state_dict(optimizer_state)
    for model, own in ((first, optimizer), (second, renewed)):
        with _seeded(3):
            _train(model, histories(64, seed=1), steps=STEPS, prepare=False, optimizer=own)
        model.eval()
    different = [n for n, tensor in first.state_dict().items() if not torch.equal(tensor, second.state_dict()[n])]
    _expect(not different, f"training that went on from a state gave another result in {different[:3]}")


def check_that_training_reaches_every_parameter(build: Build) -> None:
    """Losses are finite scalars, and a few optimizer steps change every parameter, all of it staying finite."""
    with _seeded(0):
        model = build(ITEMS, LENGTH)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        _train(model, histories(64), steps=STEPS)
    model.eval()
    for name, parameter in model.named_parameters():
        _expect(bool(parameter.isfinite().all()), f"{name} is not finite after {STEPS} steps")
        moved = not torch.equal(parameter, before[name])
        _expect(moved or not parameter.requires_grad, f"{STEPS} steps left {name} as it was")


def check_that_items_not_in_training_rank(build: BuildRanker) -> None:
    """Histories of items that training has not seen rank without an error, and every item has a score."""
    model, batch = _trained(build, seed=0), histories(9)
    unseen = replace(batch, history_BL=torch.where(batch.history_BL > 0, batch.history_BL % 10 + SEEN + 1, 0))
    _expect_no_nan(_scores(model, unseen), "scores of items that training has not seen")


def check_that_a_history_of_one_item_is_enough(build: BuildRanker) -> None:
    """Batches of histories of one item train and rank, down to a batch of one row; so do histories of one position."""
    for length in (1, LENGTH):
        with _seeded(0):
            model, batch = build(ITEMS, length), histories(8, length=length)
            ones = replace(batch, history_BL=batch.history_BL * (torch.arange(length) < 1).int())
            ones = replace(ones, length_B=torch.ones_like(ones.length_B))
            _made_ready(model, ones, steps=2)
            if isinstance(model, NextItemModel):
                _train(model, chosen(ones, torch.tensor([0])), steps=2, prepare=False)
        for rows in (1, 8):
            what = f"scores of {rows} histories of one item in {length} positions"
            _expect_no_nan(_scores(model, chosen(ones, torch.arange(rows))), what)


def check_that_a_history_of_fifty_fits(build: BuildRanker) -> None:
    """Histories of up to 50 items train and rank."""
    batch = histories(8, length=50)
    with _seeded(0):
        model = build(ITEMS, 50)
        _made_ready(model, batch, steps=2)
    scores_BI = _scores(model, batch)
    _expect(scores_BI.shape == (8, ITEMS), f"histories of 50 have scores {tuple(scores_BI.shape)}")
    _expect_no_nan(scores_BI, "scores of histories of 50")


def check_that_users_it_does_not_know_are_left_alone(build: BuildRanker) -> None:
    """What is built without users has the same bits whether batches tell them or not."""
    told, untold = histories(64), replace(histories(64), user_B=None)
    models = []
    for batch in (told, untold):
        with _seeded(0):
            model = build(ITEMS, LENGTH)
            _made_ready(model, batch, steps=STEPS)
        models.append(model.eval())
    expected_BI = _scores(models[0], told)
    _expect(torch.equal(_scores(models[1], untold), expected_BI), "users that it was not built with changed the scores")


CHECKS: tuple[Callable[[Build], None], ...] = (
    check_that_scores_have_their_shape,
    check_that_padding_does_not_leak,
    check_that_scores_follow_the_batch,
    check_that_targets_are_not_looked_at,
    check_that_a_seed_decides_the_result,
    check_that_a_state_holds_everything,
    check_that_training_goes_on_from_a_state,
    check_that_training_reaches_every_parameter,
    check_that_items_not_in_training_rank,
    check_that_a_history_of_one_item_is_enough,
    check_that_a_history_of_fifty_fits,
)
"""All of them; each takes a `Build`."""

RANKING_CHECKS: tuple[Callable[[BuildRanker], None], ...] = (
    check_that_scores_have_their_shape,
    check_that_padding_does_not_leak,
    check_that_scores_follow_the_batch,
    check_that_targets_are_not_looked_at,
    check_that_a_seed_decides_the_scores,
    check_that_items_not_in_training_rank,
    check_that_a_history_of_one_item_is_enough,
    check_that_a_history_of_fifty_fits,
)
"""Those of a ranker that is prepared and not trained."""


class SameNoiseInEveryRow(TorchDispatchMode):
    """Everything that is drawn, rows first, is the same in every row, however many rows there are."""

    DRAWS = frozenset({"randn", "randn_like", "rand", "rand_like", "normal", "normal_", "uniform_", "bernoulli_"})

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator; repeat the first row of what it draws."""
        name = func.overloadpacket.__name__
        if name not in self.DRAWS:
            return func(*args, **(kwargs or {}))
        with _seeded(0):
            result = func(*args, **(kwargs or {}))
        if result.dim() > 1 and name.startswith(("randn", "rand")):
            # The numbers of the first row depend on how many rows are drawn.
            row = torch.empty(result.shape[1:], dtype=result.dtype)
            generator = torch.Generator().manual_seed(0)
            row = row.normal_(generator=generator) if "randn" in name else row.uniform_(generator=generator)
            result.copy_(row.expand_as(result))
        elif result.dim() > 1:
            result.copy_(result[:1].clone().expand_as(result))
        return result


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generator at a seed, and put its state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _trained(build: Callable[[int, int], Ranker], seed: int) -> Ranker:
    """Return a method after a few steps, or prepared where it has nothing to train, in evaluation mode."""
    with _seeded(seed):
        model = build(ITEMS, LENGTH)
        _made_ready(model, histories(64), steps=STEPS)
    return model.eval()


def _made_ready(model: NextItemRanker, batch: SequenceBatch, *, steps: int) -> None:
    """Train what can be trained, and prepare what cannot."""
    if isinstance(model, NextItemModel):
        _train(model, batch, steps=steps)
    else:
        model.prepare(SequencesInMemory(batch))


def _train(
    model: NextItemModel,
    batch: SequenceBatch,
    *,
    steps: int,
    prepare: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
) -> torch.optim.Optimizer:
    """Do what the task does, with batches of at most 16 rows; return the optimizer, the given one or a new one."""
    source = SequencesInMemory(batch)
    if prepare:
        model.prepare(source)
    optimizer = optimizer or model.optimizer()
    model.train()
    taken = 0
    while taken < steps:
        for part in source.batches(16, shuffle_seed=taken):
            optimizer.zero_grad(set_to_none=True)
            loss = model.loss(part)
            _expect(loss.dim() == 0, f"loss returned {tuple(loss.shape)}, not a scalar")
            _expect(bool(loss.isfinite()), f"the loss is {loss.item()} in step {taken + 1}")
            loss.backward()
            optimizer.step()
            taken += 1
    return optimizer


def _scores(model: NextItemRanker, batch: SequenceBatch) -> Tensor:
    """Return the scores of all items as the task asks for them, noise from one seed."""
    with _seeded(2), torch.inference_mode():
        return model.eval().rank_scores(batch)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _expect_close(found: Tensor, expected: Tensor, otherwise: str) -> None:
    finite = expected.isfinite()
    same_places = torch.equal(finite, found.isfinite())
    scale = float(expected[finite].abs().max()) if bool(finite.any()) else 1.0
    close = same_places and torch.allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-5 * max(scale, 1e-3))
    _expect(close, otherwise)


def _expect_no_nan(tensor: Tensor, what: str) -> None:
    _expect(not bool(tensor.isnan().any()), f"{what}: not a number")
