import itertools
from dataclasses import replace

import pytest
import torch

from tests.trainables.next_item.sequence_batches import random_batch, select
from tests.trainables.next_item.text_models import random_text
from trainables.base import SequenceBatch
from trainables.next_item.semantic_ids import prefix_tables

pytest.importorskip("faiss", reason="the extra text is not installed")
pytest.importorskip("transformers", reason="the extra text is not installed")

from tests.trainables.next_item.plain_tiger import PlainTIGER
from trainables.next_item.semantic_ids import semantic_ids
from trainables.next_item.tiger import HISTORIES_AT_ONCE, TIGER, _small_t5

ITEMS = 40
SMALL = {"size": 16, "layers": 1, "heads": 2, "head_size": 8, "feed_forward_size": 32}
CODES = {"codebooks": 2, "codebook_size": 8, "beams": ITEMS}


def make(users: int | None = None, **parameters: object) -> TIGER:
    torch.manual_seed(0)
    model = TIGER(ITEMS, 6, random_text(ITEMS), users, **{**SMALL, **CODES, **parameters})  # type: ignore[arg-type]
    model.prepare([])  # type: ignore[arg-type]
    return model.eval()


def test_semantic_ids_are_distinct_and_alike_for_like_text() -> None:
    generator = torch.Generator().manual_seed(0)
    center_GE = torch.randn(8, 16, generator=generator) * 10
    text_IE = center_GE.repeat_interleave(6, 0) + 0.1 * torch.randn(48, 16, generator=generator)
    code_IC = semantic_ids(text_IE, codebooks=2, codebook_size=8, seed=1)
    assert code_IC.shape == (48, 3)
    assert (int(code_IC.min()), int(code_IC[:, :2].max())) == (0, 7)
    assert len(code_IC.unique(dim=0)) == 48
    assert torch.equal(code_IC, semantic_ids(text_IE, codebooks=2, codebook_size=8, seed=1))
    first_GI = code_IC[:, 0].view(8, 6)
    # K-means may merge two of the groups.
    assert float((first_GI == first_GI.mode(1, keepdim=True).values).float().mean()) > 0.9
    assert len(first_GI.mode(1).values.unique()) >= 5


def test_equal_text_is_told_apart_by_the_last_code() -> None:
    text_IE = random_text(20).repeat(2, 1)
    code_IC = semantic_ids(text_IE, codebooks=3, codebook_size=16, seed=0)
    assert torch.equal(code_IC[:20, :3], code_IC[20:, :3])
    assert bool((code_IC[20:, 3] > code_IC[:20, 3]).all())
    with pytest.raises(ValueError, match="9 items have equal codes, more than 8; raise codebook_size"):
        semantic_ids(torch.cat([random_text(8), random_text(1).expand(8, -1)]), codebooks=2, codebook_size=8, seed=0)
    with pytest.raises(ValueError, match="a power of two up to the 20 items"):
        semantic_ids(random_text(20), codebooks=2, codebook_size=12, seed=0)


def test_prefix_tables_lead_to_items_and_nowhere_else() -> None:
    code_IC = torch.tensor([[1, 0, 0], [0, 2, 0], [1, 0, 1], [1, 2, 0]])
    tables = prefix_tables(code_IC, 3)
    found = {}
    for codes in itertools.product(range(3), repeat=3):
        prefix = 0
        for table_PK, code in zip(tables, codes, strict=True):
            prefix = int(table_PK[prefix, code]) if prefix >= 0 else -1
        if prefix >= 0:
            found[codes] = prefix
    assert found == {tuple(codes): item for item, codes in enumerate(code_IC.tolist())}


@torch.no_grad()
def test_a_beam_as_wide_as_all_items_scores_each_by_its_likelihood() -> None:
    model, batch = make(beams=200), random_batch(3, items=ITEMS)
    scores_BI = model.rank_scores(batch)
    token_IC = model._tokens(torch.arange(1, ITEMS + 1))
    for row in range(3):
        one = select(batch, torch.tensor([row]))
        history_1S = model._tokens(one.history_BL[:, : int(one.length_B)]).flatten(1)
        for item in range(ITEMS):
            logits_CV = model.t5(input_ids=history_1S, labels=token_IC[item][None]).logits[0]
            expected = torch.log_softmax(logits_CV, dim=1).gather(1, token_IC[item][:, None]).sum()
            torch.testing.assert_close(scores_BI[row, item], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_token_of_a_user_stands_before_the_history() -> None:
    """A beam as wide as all items, against one pass of the T5 over tokens put together here, without padding."""
    model, batch = make(9_000, beams=200), replace(random_batch(3, items=ITEMS), user_B=torch.tensor([7, 2_003, 8_999]))
    assert model.t5.config.vocab_size == 1 + 3 * 8 + 2_000
    scores_BI = model.rank_scores(batch)
    token_IC = model._tokens(torch.arange(1, ITEMS + 1))
    for row, token in enumerate([25 + 7, 25 + 3, 25 + 999]):
        history_LC = model._tokens(batch.history_BL[row, : int(batch.length_B[row])])
        read_1S = torch.cat([torch.tensor([token]), history_LC.flatten()])[None]
        for item in (0, 11, ITEMS - 1):
            logits_CV = model.t5(input_ids=read_1S, labels=token_IC[item][None]).logits[0]
            expected = torch.log_softmax(logits_CV, dim=1).gather(1, token_IC[item][:, None]).sum()
            torch.testing.assert_close(scores_BI[row, item], expected, atol=1e-4, rtol=1e-4)


def test_users_are_attended_to_and_learned_and_share_tokens() -> None:
    model, one = make(9_000, beams=5), random_batch(1, items=ITEMS)
    batch = select(one, torch.zeros(3, dtype=torch.int64))
    batch = replace(batch, user_B=torch.tensor([5, 6, 2_005], dtype=torch.int32))
    with torch.no_grad():
        scores_BI = model.rank_scores(batch).nan_to_num(neginf=0.0)
    torch.testing.assert_close(scores_BI[0], scores_BI[2])
    assert not torch.allclose(scores_BI[0], scores_BI[1])
    model.loss(batch).backward()
    # Every token has a gradient, as one that might be written; those that are read have far more.
    norm_U = model.t5.shared.weight.grad[25:].norm(dim=1)
    assert set(norm_U.topk(2).indices.tolist()) == {5, 6}


@torch.no_grad()
def test_a_narrow_beam_leaves_other_items_without_a_score() -> None:
    model, batch = make(beams=5), random_batch(4, items=ITEMS)
    scores_BI = model.rank_scores(batch)
    assert scores_BI.isfinite().sum(1).tolist() == [5] * 4
    wide_BI = make(beams=200).rank_scores(batch)
    found_BI = scores_BI.isfinite()
    torch.testing.assert_close(scores_BI[found_BI], wide_BI[found_BI])


@torch.no_grad()
def test_a_history_is_attended_to_from_keys_that_are_computed_once() -> None:
    model, rows = make(beams=5), []
    keys = model.t5.decoder.block[0].layer[1].EncDecAttention.k
    keys.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    model.rank_scores(random_batch(7, items=ITEMS))
    assert rows == [7]


@torch.no_grad()
@pytest.mark.parametrize(("beams", "users"), [(1, None), (5, None), (200, None), (5, 3_000), (200, 3_000)])
def test_the_beam_search_equals_one_that_decodes_everything_anew(beams: int, users: int | None) -> None:
    model, batch = make(users, beams=beams), random_batch(9, items=ITEMS, users=users)
    parameters = {**SMALL, **CODES, "beams": beams}
    plain = PlainTIGER(ITEMS, 6, random_text(ITEMS), users, **parameters)  # type: ignore[arg-type]
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.rank_scores(batch), plain.eval().rank_scores(batch), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_many_histories_have_the_scores_of_few() -> None:
    model, batch = make(beams=5), random_batch(HISTORIES_AT_ONCE + 3, items=ITEMS)
    scores_BI = model.rank_scores(batch)
    for rows in torch.arange(len(batch)).split(9):
        torch.testing.assert_close(model.rank_scores(select(batch, rows)), scores_BI[rows], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_and_order_of_the_batch_have_no_influence() -> None:
    model, batch = make(), random_batch(6, items=ITEMS)
    padded_BL = torch.arange(6) >= batch.length_B[:, None]
    other = SequenceBatch(torch.where(padded_BL, 7, batch.history_BL), batch.length_B, batch.target_B)
    scores_BI = model.rank_scores(batch)
    torch.testing.assert_close(model.rank_scores(other), scores_BI, atol=1e-5, rtol=1e-5)
    order_B = torch.randperm(6)
    torch.testing.assert_close(model.rank_scores(select(batch, order_B)), scores_BI[order_B], atol=1e-5, rtol=1e-5)


def test_without_users_the_t5_has_tokens_of_codes_alone() -> None:
    """And so the weights that it is drawn with."""
    torch.manual_seed(0)
    model, after = TIGER(ITEMS, 6, random_text(ITEMS), **SMALL, **CODES), torch.rand(3)  # type: ignore[arg-type]
    torch.manual_seed(0)
    names = {"d_model": 16, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 32}
    plain = _small_t5(vocab_size=1 + 3 * 8, dropout_rate=0.1, **names)
    assert all(torch.equal(one, plain.state_dict()[name]) for name, one in model.t5.state_dict().items())
    assert torch.equal(torch.rand(3), after)


@torch.no_grad()
def test_a_checkpoint_brings_its_codes() -> None:
    trained, batch = make(), random_batch(3, items=ITEMS)
    expected_BI = trained.rank_scores(batch)
    other = TIGER(ITEMS, 6, random_text(ITEMS), **SMALL, **CODES).eval()  # type: ignore[arg-type]
    other.rank_scores(batch)  # makes tables of codes that the checkpoint replaces
    other.load_state_dict(trained.state_dict())
    torch.testing.assert_close(other.rank_scores(batch), expected_BI)


def test_learns_what_follows_what() -> None:
    model = make(learning_rate=0.01, dropout=0.0).train()
    batch, optimizer = random_batch(24, items=ITEMS), model.optimizer()
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    with torch.no_grad():
        best_B = model.eval().rank_scores(batch).argmax(1) + 1
    assert float((best_B == batch.target_B).float().mean()) > 0.6
