from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from harness.methods import defaults
from tests.trainables.next_item.sequence_batches import random_batch, select
from tests.trainables.next_item.text_models import OF_ANY_ITEMS, SMALL, make, random_text
from trainables.base import SequenceBatch
from trainables.next_item.encoders import EncoderName
from trainables.next_item.llm2bert4rec import LLM2BERT4Rec
from trainables.next_item.morec import MoRec
from trainables.next_item.preferdiff import PreferDiff
from trainables.next_item.preferdiff_t import PreferDiffT
from trainables.next_item.text import principal_components, whitened
from trainables.next_item.unisrec import UniSRec, WhiteningExperts, without_some_items

NAMES = {"ids": lambda method: method.__name__}


def seeded_scores(model: Any, batch: SequenceBatch) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        scores_BI: torch.Tensor = model.rank_scores(batch)
    return scores_BI


def assert_trains(model: Any, items: int) -> None:
    """A few steps leave loss, parameters and scores finite."""
    optimizer, batch = model.train().optimizer(), random_batch(16, items=items)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model.loss(batch)
        assert bool(loss.isfinite())
        loss.backward()
        optimizer.step()
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert bool(seeded_scores(model.eval(), batch).isfinite().all())


@pytest.mark.parametrize("method", SMALL, **NAMES)
def test_the_scores_change_with_the_text(method: type[Any]) -> None:
    batch = random_batch(4)
    one, other = (seeded_scores(make(method, text_seed=seed).eval(), batch) for seed in (0, 1))
    assert one.shape == (4, 50)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("method", SMALL, **NAMES)
def test_padding_has_no_influence(method: type[Any]) -> None:
    model, batch = make(method).eval(), random_batch(6)
    padded_BL = torch.arange(6) >= batch.length_B[:, None]
    other = SequenceBatch(torch.where(padded_BL, 7, batch.history_BL), batch.length_B, batch.target_B)
    torch.testing.assert_close(seeded_scores(model, other), seeded_scores(model, batch))


@pytest.mark.parametrize("method", SMALL, **NAMES)
def test_every_parameter_receives_a_gradient(method: type[Any]) -> None:
    model = make(method).train()
    for seed in range(3):
        model.loss(random_batch(32, seed=seed)).backward()
    without = [name for name, value in model.named_parameters() if value.grad is None or not bool(value.grad.any())]
    assert not [name for name in without if not name.endswith("noise.weight")]


@pytest.mark.parametrize("method", OF_ANY_ITEMS, **NAMES)
def test_a_trained_model_ranks_the_items_of_another_dataset(method: type[Any]) -> None:
    trained, other = make(method).eval(), make(method, items=80, text_seed=5).eval()
    other.load_state_dict(trained.state_dict())
    batch = random_batch(4, items=80)
    assert seeded_scores(other, batch).shape == (4, 80)


@pytest.mark.parametrize("method", SMALL, **NAMES)
def test_learns_what_follows_what(method: type[Any]) -> None:
    model = make(method, learning_rate=0.01, dropout=0.0).train()
    batch, optimizer = random_batch(48), model.optimizer()
    for _ in range(250):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    hit_B = seeded_scores(model.eval(), batch).argmax(1) + 1 == batch.target_B
    assert float(hit_B.float().mean()) > 0.4 > 10 / 50


@pytest.mark.parametrize("negative_samples", [None, 2])
@pytest.mark.parametrize("encoder", ["transformer", "gru"])
def test_preferdiff_t_is_preferdiff_with_whitened_text_for_embeddings(
    encoder: EncoderName, negative_samples: int | None
) -> None:
    own: dict[str, Any] = {"encoder": encoder, "negative_samples": negative_samples}
    model, batch = make(PreferDiffT, **own).train(), random_batch(8)
    small = {"diffusion_steps": 20, "ddim_steps": 4, "variant": "released", **own}
    plain = PreferDiff(50, 6, size=16, **small).train()  # type: ignore[arg-type]
    assert isinstance(model, PreferDiffT)
    assert type(model.encoder) is type(plain.encoder)
    state = {**model.state_dict(), "embedding.weight": whitened(random_text(), "zca")}
    plain.load_state_dict(state)
    losses = []
    for either in (model, plain):
        torch.manual_seed(3)
        losses.append(either.loss(batch).detach())
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(seeded_scores(model.eval(), batch), seeded_scores(plain.eval(), batch))
    assert not any(name.startswith("embedding") for name in model.state_dict())


def test_preferdiff_t_has_preferdiffs_parameters_but_for_those_of_learned_embeddings() -> None:
    text, ids = defaults(PreferDiffT), defaults(PreferDiff)
    assert ids.keys() - text.keys() == {"size", "initialization"}
    assert {name: text[name] for name in text.keys() & ids.keys()} == {
        name: ids[name] for name in text.keys() & ids.keys()
    }


def test_preferdiff_t_decays_weights_as_adamw() -> None:
    """One step from the same start: with weight decay every parameter is lower by lr · decay · itself."""
    start, after = {}, {}
    for decay in (0.0, 0.5):
        model = make(PreferDiffT, learning_rate=0.01, weight_decay=decay).train()
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        optimizer = model.optimizer()
        torch.manual_seed(3)
        model.loss(random_batch(8)).backward()
        optimizer.step()
        after[decay] = {name: value.detach() for name, value in model.named_parameters()}
    for name, value in start.items():
        torch.testing.assert_close(after[0.5][name] - after[0.0][name], -0.01 * 0.5 * value, rtol=1e-3, atol=1e-6)


def test_morec_scores_are_dot_products_with_transformed_text() -> None:
    model, batch = make(MoRec).eval(), random_batch(5)
    assert isinstance(model, MoRec)
    item_ID = model.transformation(whitened(random_text(), "zca"))
    history_BLD = item_ID[(batch.history_BL.long() - 1).clamp(min=0)]
    expected = model.encoder(history_BLD, batch.length_B) @ item_ID.T
    torch.testing.assert_close(model.rank_scores(batch), expected)
    torch.testing.assert_close(model.loss(batch), functional.cross_entropy(expected, batch.target_B.long() - 1))


@pytest.mark.parametrize(("method", "table"), [(PreferDiffT, "embedding"), (MoRec, "text")])
def test_zero_shot_methods_whiten_each_domain_by_itself(method: type[Any], table: str) -> None:
    domain_I, text_IE = torch.arange(50) // 20, random_text()
    model = method(50, 6, text_IE, domain_I, whitening="pca")
    assert torch.equal(getattr(model, table).weight, whitened(text_IE, "pca", domain_I))
    assert model.tied_to_items.endswith("set zca") and not method(50, 6, text_IE).tied_to_items


def test_llm2bert4rec_starts_from_scaled_components() -> None:
    model = make(LLM2BERT4Rec)
    assert isinstance(model, LLM2BERT4Rec)
    weight_ID, component_ID = model.embedding.weight.detach(), principal_components(random_text(), 8)
    assert float(weight_ID.square().mean()) == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(
        weight_ID / component_ID, torch.full((50, 8), float(weight_ID[0, 0] / component_ID[0, 0]))
    )
    assert model.embedding.weight.requires_grad


@pytest.mark.parametrize("items", [1, 50])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.1, 1e4])
def test_llm2bert4rec_starts_from_zero_where_texts_do_not_differ(items: int, scale: float) -> None:
    text_IE = scale * random_text(1).expand(items, -1)
    model = LLM2BERT4Rec(items, 6, text_IE, size=8)
    assert not bool(model.embedding.weight.detach().any())
    assert_trains(model, items)


def test_llm2bert4rec_takes_any_difference_for_one() -> None:
    text_IE = random_text(1).expand(50, -1).clone()
    text_IE[7, 3] += 1e-5
    model = LLM2BERT4Rec(50, 6, text_IE, size=8)
    assert float(model.embedding.weight.detach().square().mean()) == pytest.approx(1, rel=1e-5)
    assert int(model.embedding.weight.detach().abs().sum(1).argmax()) == 7


@pytest.mark.parametrize("items", [1, 50])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_unisrec_takes_texts_that_do_not_differ(items: int, scale: float) -> None:
    model = UniSRec(items, 6, scale * random_text(1).expand(items, -1), size=8)
    assert float(model.text.weight.square().mean()) == pytest.approx(scale, rel=1e-5)
    assert_trains(model, items)


def test_whitening_experts_equal_a_loop_over_experts() -> None:
    torch.manual_seed(0)
    experts = WhiteningExperts(6, 4, experts=3, dropout=0.5).eval()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    text_IE = torch.randn(5, 6)
    gate_IX = torch.softmax(text_IE @ experts.gate.weight.T, dim=1)
    expected = torch.zeros(5, 4)
    for index, weight_DE in enumerate(experts.projection.weight.view(3, 4, 6)):
        expected += gate_IX[:, index, None] * (text_IE @ weight_DE.T - experts.shift[index])
    torch.testing.assert_close(experts(text_IE), expected)


def test_unisrec_tells_next_items_by_cosine_and_adds_the_second_task() -> None:
    batch = replace(random_batch(9), target_B=torch.arange(1, 10, dtype=torch.int32))
    model = make(UniSRec, candidates="all", contrast=0.0, temperature=0.5).eval()
    assert isinstance(model, UniSRec)
    expected = functional.cross_entropy(model.rank_scores(batch) / 0.5, batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), expected)
    assert float(model.rank_scores(batch).detach().abs().max()) <= 1 + 1e-5
    model.contrast, model.dropped_share = 2.0, 0.0
    state_BD = model._state(batch)
    second = functional.cross_entropy(state_BD @ state_BD.T / 0.5, torch.arange(9))
    torch.testing.assert_close(model.loss(batch), expected + 2 * second)


def test_unisrec_copies_of_a_row_with_the_same_next_item_are_no_negatives() -> None:
    model, batch = make(UniSRec, contrast=0.0, dropped_share=0.0, temperature=0.5).eval(), random_batch(4)
    batch = SequenceBatch(batch.history_BL, batch.length_B, torch.tensor([3, 9, 3, 5], dtype=torch.int32))
    first = model.loss(batch).detach()
    model.contrast = 1.0
    cosine_BB = model._state(batch).detach() @ model._state(batch).detach().T / 0.5
    seen = ([0, 1, 3], [1, 0, 2, 3], [2, 1, 3], [3, 0, 1, 2])
    second = -sum(float(torch.log_softmax(cosine_BB[row, rows], 0)[0]) for row, rows in enumerate(seen)) / 4
    assert float(model.loss(batch).detach() - first) == pytest.approx(second, rel=1e-4)


def test_unisrec_in_batch_candidates_leave_equal_items_out() -> None:
    model = make(UniSRec, contrast=0.0).eval()
    assert isinstance(model, UniSRec)
    batch = random_batch(4)
    batch = SequenceBatch(batch.history_BL, batch.length_B, torch.tensor([3, 9, 3, 5], dtype=torch.int32))
    score_BI = model.rank_scores(batch).double() / model.temperature
    expected = 0.0
    for row, (own, negatives) in enumerate(((3, (9, 5)), (9, (3, 3, 5)), (3, (9, 5)), (5, (3, 9, 3)))):
        scores = torch.stack([score_BI[row, item - 1] for item in (own, *negatives)])
        expected -= float(torch.log_softmax(scores.detach(), 0)[0]) / 4
    assert float(model.loss(batch).detach()) == pytest.approx(expected, rel=1e-4)


def test_items_are_dropped_in_order_and_never_all() -> None:
    torch.manual_seed(0)
    batch = select(random_batch(2000), torch.arange(2000))
    short = without_some_items(batch, 0.5)
    assert int(short.length_B.min()) >= 1
    for before, after, length in zip(batch.history_BL[:50], short.history_BL, short.length_B, strict=False):
        left, items = iter(before.tolist()), after.tolist()
        assert all(item in left for item in items[: int(length)])
        assert items[int(length) :] == [0] * (6 - int(length))
    long_B = batch.length_B == 6
    assert float(short.length_B[long_B].float().mean()) == pytest.approx(3, abs=0.25)
    assert torch.equal(without_some_items(batch, 0.0).history_BL, batch.history_BL)
