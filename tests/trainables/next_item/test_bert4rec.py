import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.base import SequenceBatch
from trainables.next_item.appended import with_item_appended
from trainables.next_item.bert4rec import BERT4Rec

ITEMS, LENGTH, SIZE = 50, 6, 8


def make(**parameters: object) -> BERT4Rec:
    torch.manual_seed(0)
    model = BERT4Rec(ITEMS, LENGTH, size=SIZE, **parameters)  # type: ignore[arg-type]
    with torch.no_grad():
        model.bias_I.normal_()
    return model


def library_states(model: BERT4Rec, batch: SequenceBatch, masked_BL: Tensor) -> Tensor:
    """The states at all positions by torch's own post-norm transformer layer, from the same weights."""
    layer = nn.TransformerEncoderLayer(SIZE, 2, 4 * SIZE, activation="gelu", batch_first=True).eval()
    attention = model.attention
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": attention.query_key_value.weight,
            "self_attn.in_proj_bias": attention.query_key_value.bias,
            "self_attn.out_proj.weight": attention.output.weight,
            "self_attn.out_proj.bias": attention.output.bias,
            "linear1.weight": model.feed_forward[0].weight,
            "linear1.bias": model.feed_forward[0].bias,
            "linear2.weight": model.feed_forward[2].weight,
            "linear2.bias": model.feed_forward[2].bias,
            "norm1.weight": attention.norm.weight,
            "norm1.bias": attention.norm.bias,
            "norm2.weight": model.norm.weight,
            "norm2.bias": model.norm.bias,
        }
    )
    item_BLD = model.embedding.weight[(batch.history_BL - 1).clamp(min=0)]
    x_BLD = torch.where(masked_BL[..., None], model.mask_D, item_BLD) + model.position_LD
    padded_BL = torch.arange(x_BLD.shape[1]) >= batch.length_B[:, None]
    state_BLD: Tensor = model.output(layer(x_BLD, src_key_padding_mask=padded_BL))
    return state_BLD


@torch.no_grad()
def test_ranks_by_the_state_of_a_mask_after_the_history() -> None:
    model, batch = make().eval(), random_batch(9)
    longer = with_item_appended(batch, torch.zeros(9))
    masked_BL = torch.arange(LENGTH + 1) == batch.length_B[:, None]
    state_BD = library_states(model, longer, masked_BL)[masked_BL]
    expected_BI = state_BD @ model.embedding.weight.T + model.bias_I
    torch.testing.assert_close(model.rank_scores(batch), expected_BI, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_loss_is_the_cross_entropy_at_the_masked_items() -> None:
    model, batch = make(mask_probability=0.5, last_probability=0.3).eval(), random_batch(20)
    sequences = with_item_appended(batch, batch.target_B)
    torch.manual_seed(1)
    masked_BL = model._cloze(sequences)
    torch.manual_seed(1)
    loss = model.loss(batch)
    score_MI = library_states(model, sequences, masked_BL)[masked_BL] @ model.embedding.weight.T + model.bias_I
    expected = functional.cross_entropy(score_MI, sequences.history_BL[masked_BL].long() - 1)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("probability", [0.2, 0.8])
def test_share_of_masked_items(probability: float) -> None:
    model, batch = make(mask_probability=probability, last_probability=0.0), random_batch(400)
    sequences = with_item_appended(batch, batch.target_B)
    masked_BL = model._cloze(sequences)
    assert not bool((masked_BL & (torch.arange(LENGTH + 1) >= sequences.length_B[:, None])).any())
    expected_B = torch.tensor([max(1, round(int(length) * probability)) for length in sequences.length_B])
    assert torch.equal(masked_BL.sum(1), expected_B)
    whole_BL = masked_BL[sequences.length_B == LENGTH + 1].float()
    torch.testing.assert_close(whole_BL.mean(0), torch.full((LENGTH + 1,), whole_BL.mean().item()), atol=0.2, rtol=0)


def test_the_last_item_alone_is_masked_as_often_as_asked() -> None:
    model, batch = make(mask_probability=1.0, last_probability=0.25), random_batch(2000)
    sequences = with_item_appended(batch, batch.target_B)
    masked_BL = model._cloze(sequences)
    last_BL = torch.arange(LENGTH + 1) == batch.length_B[:, None]
    last_alone_B = (masked_BL == last_BL).all(1)
    assert float(last_alone_B.float().mean()) == pytest.approx(0.25, abs=0.03)
    whole_BL = torch.arange(LENGTH + 1) < sequences.length_B[:, None]
    assert torch.equal(masked_BL[~last_alone_B], whole_BL[~last_alone_B])


def test_heads_must_divide_the_size() -> None:
    with pytest.raises(ValueError, match="size 8 is no multiple of 3 heads"):
        make(heads=3)


def test_an_item_is_appended_after_the_last_real_one() -> None:
    batch = SequenceBatch(torch.tensor([[4, 5, 6], [7, 0, 0]]), torch.tensor([3, 1]), torch.tensor([8, 9]))
    longer = with_item_appended(batch, batch.target_B)
    assert longer.history_BL.tolist() == [[4, 5, 6, 8], [7, 9, 0, 0]]
    assert longer.length_B.tolist() == [4, 2]
    assert batch.history_BL.tolist() == [[4, 5, 6], [7, 0, 0]]
