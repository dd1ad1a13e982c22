import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch, select
from trainables.base import SequenceBatch
from trainables.next_item.attributes import AttributeAttention, multi_hot
from trainables.next_item.fdsa import FDSA
from trainables.next_item.s3rec import (
    S3Rec,
    items_of_others,
    random_segments,
    shuffled_prefixes,
    whole_sequences,
    with_target,
)


def random_attributes(items: int = 50, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    attribute_IA = torch.randint(1, 13, (items, 3), generator=generator, dtype=torch.int32)
    count_I = torch.randint(0, 4, (items,), generator=generator)
    return attribute_IA * (torch.arange(3) < count_I[:, None])


class Batches:
    def __init__(self, *batches: SequenceBatch) -> None:
        self.all = batches

    def __len__(self) -> int:
        return sum(map(len, self.all))

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Any:
        return iter(self.all)


def make(method: type[Any], seed: int = 0, **parameters: Any) -> Any:
    torch.manual_seed(0)
    return method(50, 6, random_attributes(seed=seed), size=16, **parameters)


METHODS = pytest.mark.parametrize("method", [FDSA, S3Rec], ids=lambda method: method.__name__)


@METHODS
def test_padding_and_order_of_the_batch_have_no_influence(method: type[Any]) -> None:
    model, batch = make(method).eval(), random_batch(6)
    padded_BL = torch.arange(6) >= batch.length_B[:, None]
    other = SequenceBatch(torch.where(padded_BL, 7, batch.history_BL), batch.length_B, batch.target_B)
    scores_BI = model.rank_scores(batch)
    assert scores_BI.shape == (6, 50)
    torch.testing.assert_close(model.rank_scores(other), scores_BI)
    order_B = torch.randperm(6)
    torch.testing.assert_close(model.rank_scores(select(batch, order_B)), scores_BI[order_B])


@METHODS
def test_loss_is_the_cross_entropy_of_the_ranking_scores(method: type[Any]) -> None:
    model, batch = make(method).eval(), random_batch(9)
    expected = functional.cross_entropy(model.rank_scores(batch), batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), expected)


@METHODS
def test_learns_what_follows_what(method: type[Any]) -> None:
    model, batch = make(method, learning_rate=0.01, dropout=0.0).train(), random_batch(48)
    optimizer, losses = model.optimizer(), []
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 < 3 < losses[0]


@METHODS
def test_a_size_that_heads_do_not_divide_is_refused(method: type[Any]) -> None:
    with pytest.raises(ValueError, match="encoder: size 16 is no multiple of 3 heads; change size or heads"):
        make(method, heads=3)


def test_fdsa_scores_change_with_the_attributes() -> None:
    batch = random_batch(6)
    assert not torch.allclose(make(FDSA).eval().rank_scores(batch), make(FDSA, seed=1).eval().rank_scores(batch))


def test_attribute_attention_has_no_parameter_that_the_softmax_cancels() -> None:
    torch.manual_seed(0)
    attention = AttributeAttention(random_attributes(), 16)
    found_BLD = attention.histories(random_batch(9).history_BL)
    found_BLD.square().sum().backward()
    largest = {name: float(value.grad.abs().max()) for name, value in attention.named_parameters()}  # type: ignore[union-attr]
    assert min(largest.values()) > 1e-3, largest


def test_attribute_attention_equals_a_loop_and_counts_an_attribute_named_twice_once() -> None:
    torch.manual_seed(0)
    attention = AttributeAttention(torch.tensor([[2, 1, 0], [3, 3, 0], [0, 0, 0], [2, 1, 2]]), 4)
    with torch.no_grad():
        found_LD = attention.histories(torch.tensor([[1, 2, 3, 4]]))[0]
        table, score = attention.embedding, attention.score
        weight_2 = torch.softmax(torch.cat([score(table[2]), score(table[1])]), 0)
        torch.testing.assert_close(found_LD[0], weight_2[0] * table[2] + weight_2[1] * table[1])
        torch.testing.assert_close(found_LD[1], table[3])
        torch.testing.assert_close(found_LD[3], found_LD[0])
    assert not bool(found_LD[2].any())
    assert multi_hot(attention.attribute_IA).tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 0]]


def test_s3rec_pretraining_sees_both_sides_and_ranking_the_past_alone() -> None:
    model = make(S3Rec).eval()
    item_BLD, real_BL = torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)
    changed_BLD = item_BLD.clone()
    changed_BLD[:, 5] += torch.randn(16)
    for causal, same in ((True, True), (False, False)):
        states = [model._states(x_BLD, real_BL, causal=causal)[0, :5] for x_BLD in (item_BLD, changed_BLD)]
        assert torch.allclose(*states, atol=1e-6) == same


@pytest.mark.parametrize("task", range(4))
def test_s3rec_each_pretraining_task_is_learned(task: int) -> None:
    names = ("attribute_weight", "item_weight", "masked_attribute_weight", "segment_weight")
    weights = {name: float(index == task) for index, name in enumerate(names)}
    model = make(S3Rec, learning_rate=0.01, dropout=0.0, **weights).train()
    batch, optimizer, losses = with_target(random_batch(64)), model.optimizer(), []
    for _ in range(80):
        optimizer.zero_grad()
        loss = model.pretraining_loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_s3rec_attribute_task_is_a_binary_cross_entropy_of_every_attribute() -> None:
    model = make(S3Rec, item_weight=0.0, masked_attribute_weight=0.0, segment_weight=0.0, attribute_weight=0.2).eval()
    batch = with_target(random_batch(5))
    items = [item for row in batch.history_BL.tolist() for item in row if item]
    total, hot_IN = 0.0, multi_hot(random_attributes())
    for item in items:
        logit_N = model.item_to_attribute(model.embedding.weight[item - 1]) @ model.attribute_ND.T
        has_N = hot_IN[item - 1].bool()
        total -= float(torch.where(has_N, logit_N.sigmoid(), (-logit_N).sigmoid()).log().sum().detach())
    assert float(model.pretraining_loss(batch).detach()) == pytest.approx(0.2 * total / 5, rel=1e-3)


def test_s3rec_layers_start_apart() -> None:
    first, second = make(S3Rec).layers
    for name, weight in first.named_parameters():
        drawn = weight.dim() == 2
        assert torch.equal(weight, second.get_parameter(name)) != drawn or name.endswith("bias")


def test_s3rec_segments_are_told_by_their_items_alone() -> None:
    """With all items alike both segments are the same: a margin of 0, whatever their positions and lengths."""
    model = make(S3Rec, item_weight=0.0, masked_attribute_weight=0.0, segment_weight=0.5, attribute_weight=0.0).eval()
    with torch.no_grad():
        model.embedding.weight.copy_(model.embedding.weight[:1].clone().expand(50, -1))
        loss = model.pretraining_loss(with_target(random_batch(64)))
        assert float(loss) == pytest.approx(0.5 * math.log(2), rel=1e-5)


def test_items_of_others_are_a_run_of_theirs_in_the_segments_place() -> None:
    torch.manual_seed(0)
    length_B = torch.randint(2, 8, (60,), dtype=torch.int32)
    row_N = torch.arange(60).repeat_interleave(length_B)
    segment_BL = random_segments(length_B, 8)
    seen = set()
    for row, index_L in enumerate(items_of_others(segment_BL, length_B)):
        run = index_L[segment_BL[row]]
        assert bool((run.diff() % len(row_N) == 1).all())
        assert row not in row_N[run].tolist()
        seen.update(row_N[run].tolist())
    assert len(seen) > 20


def test_others_with_too_few_items_lend_what_they_have() -> None:
    length_B = torch.tensor([7, 2])
    segment_BL = torch.tensor([[0, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    assert items_of_others(segment_BL, length_B)[0, 1:4].tolist() == [7, 8, 0]


def test_s3rec_item_task_tells_each_masked_item_from_the_other() -> None:
    model = make(S3Rec).eval()
    state_MD = torch.randn(2, 16)
    query_MD, item_ID = model.state_to_item(state_MD), model.embedding.weight
    difference_D = item_ID[3] - item_ID[8]
    margin_M = torch.stack([query_MD[0] @ difference_D, -query_MD[1] @ difference_D])
    torch.testing.assert_close(
        model._masked_items(state_MD, torch.tensor([4, 9])), functional.softplus(-margin_M).sum()
    )
    assert model._masked_items(state_MD, torch.tensor([4, 4])).item() == 0, "an item is no negative of itself"


def test_s3rec_masked_attribute_task_reads_the_states_of_masked_items() -> None:
    others = {"attribute_weight": 0.0, "item_weight": 0.0, "segment_weight": 0.0}
    model = make(S3Rec, masked_attribute_weight=0.5, mask_probability=1.0, **others).eval()
    whole = with_target(random_batch(5))
    real_BL = whole.real_positions()
    state_BLD = model._states(model.mask_D.expand(5, 7, 16), real_BL, causal=False)
    logit_MN = model.state_to_attribute(state_BLD[real_BL]) @ model.attribute_ND.T
    hot_MN = multi_hot(random_attributes())[whole.history_BL[real_BL].long() - 1]
    expected = 0.5 * functional.binary_cross_entropy_with_logits(logit_MN, hot_MN, reduction="sum") / 5
    torch.testing.assert_close(model.pretraining_loss(whole), expected)


def test_s3rec_segment_task_tells_a_segment_from_other_items_in_its_place() -> None:
    model, whole = make(S3Rec).eval(), with_target(random_batch(2))
    item_BLD, real_BL = model.embedding.histories(whole), whole.real_positions()
    torch.manual_seed(1)
    loss = model._segments(item_BLD, real_BL, whole.length_B)

    torch.manual_seed(1)
    segment_BL = random_segments(whole.length_B, 7)
    other_BLD = item_BLD[real_BL][items_of_others(segment_BL, whole.length_B)]
    hidden, last_B = model.mask_D.expand(2, 7, 16), whole.length_B.long() - 1
    inside_BL1 = segment_BL.unsqueeze(-1)
    rest_BD, segment_BD, other_BD = (
        model._states(torch.where(inside_BL1, inside_BLD, outside_BLD), real_BL, causal=False)[torch.arange(2), last_B]
        for inside_BLD, outside_BLD in ((hidden, item_BLD), (item_BLD, hidden), (other_BLD, hidden))
    )
    own_B, other_B = ((model.state_to_segment(rest_BD) * x_BD).sum(1) for x_BD in (segment_BD, other_BD))
    torch.testing.assert_close(loss, functional.softplus(other_B - own_B).sum())


def test_s3rec_segment_task_passes_over_sequences_of_one_item() -> None:
    model, whole = make(S3Rec).eval(), with_target(random_batch(3))
    item_BLD, ones_B = model.embedding.histories(whole), torch.ones(3, dtype=torch.int64)
    real_BL = torch.arange(7) < ones_B.unsqueeze(1)
    assert model._segments(item_BLD, real_BL, ones_B).item() == 0


def test_s3rec_pretrains_on_every_prefix_of_every_sequence() -> None:
    """As its program: prefixes of all lengths, the target among their items, each once and in another order."""
    batches = [random_batch(9), random_batch(4, seed=1)]
    rows = [
        [*history[:length], target]
        for batch in batches
        for history, length, target in zip(
            batch.history_BL.tolist(), batch.length_B.tolist(), batch.target_B.tolist(), strict=True
        )
    ]
    expected = [row[:length] for row in rows for length in range(1, len(row) + 1)]
    whole = whole_sequences(Batches(*batches))
    found, sizes = [], []
    for batch in shuffled_prefixes(whole, 16):
        sizes.append(len(batch))
        for items, length in zip(batch.history_BL.tolist(), batch.length_B.tolist(), strict=True):
            found.append(items[:length])
            assert not any(items[length:])
    assert found != expected
    assert sorted(found) == sorted(expected)
    assert sizes[:-1] == [16] * (len(expected) // 16)


def test_s3rec_always_masks_the_last_item_of_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(S3Rec, mask_probability=0.0), with_target(random_batch(8))
    masked: list[int] = []

    def told(state_MD: torch.Tensor, item_M: torch.Tensor) -> torch.Tensor:
        masked.extend(item_M.tolist())
        return state_MD.sum() * 0

    monkeypatch.setattr(model, "_masked_items", told)
    model.pretraining_loss(batch)
    assert masked == batch.target_B.tolist()


def test_s3rec_is_prepared_by_pretraining_and_again_the_same() -> None:
    states = []
    for epochs in (2, 2, 0):
        model = make(S3Rec, pretraining_epochs=epochs)
        torch.manual_seed(3)
        model.prepare(Batches(random_batch(16), random_batch(8, seed=1)))
        states.append(model.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not torch.equal(states[0]["attribute_ND"], states[2]["attribute_ND"])


def test_segments_lie_within_their_histories() -> None:
    torch.manual_seed(0)
    length_B = torch.randint(2, 8, (500,))
    segment_BL = random_segments(length_B, 8)
    size_B = segment_BL.sum(1)
    assert bool((size_B >= 1).all())
    assert bool((size_B <= length_B // 2).all())
    assert not bool((segment_BL & (torch.arange(8) >= length_B[:, None])).any())
    edges_B = (segment_BL[:, 1:] & ~segment_BL[:, :-1]).sum(1) + segment_BL[:, 0]
    assert bool((edges_B == 1).all())


def test_the_target_is_put_behind_the_history() -> None:
    batch = SequenceBatch(torch.tensor([[4, 0], [5, 6]]), torch.tensor([1, 2]), torch.tensor([9, 8]))
    whole = with_target(batch)
    assert whole.history_BL.tolist() == [[4, 9, 0], [5, 6, 8]]
    assert whole.length_B.tolist() == [2, 3]
