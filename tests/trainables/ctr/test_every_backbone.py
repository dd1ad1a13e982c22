"""What every click-through-rate model in `search_spaces/` must do, at any parameters that change its layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from harness.methods import MethodCatalog, checked, load_class
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import CtrBatch, CtrModel, Field

CATALOG = MethodCatalog(Path(__file__).parents[3] / "search_spaces")
SMALL: dict[str, dict[str, Any]] = {"afn": {"neurons": 20, "hidden": [8, 8]}}
OPTIONS: dict[str, list[dict[str, Any]]] = {"pnn": [{"product": "outer"}], "afn": [{"variant": "released"}]}
WITHOUT_NUMBERS = tuple(field for field in FIELDS if field.kind != "number")
ITEM_FIRST = (FIELDS[1], FIELDS[0], *FIELDS[2:])
ITEM_LAST = (FIELDS[0], *FIELDS[2:], FIELDS[1])


def _backbones() -> list[Any]:
    classes = {name: load_class(CATALOG.find(name)) for name in CATALOG.names()}
    found = [(name, cls) for name, cls in classes.items() if issubclass(cls, CtrModel)]
    cases = [(name, cls, options) for name, cls in found for options in ({}, *OPTIONS.get(name, []))]
    return [pytest.param((n, c, o), id="-".join([n, *map(str, o.values())])) for n, c, o in cases]


BACKBONES = pytest.mark.parametrize("backbone", _backbones())
Backbone = tuple[str, type[CtrModel], dict[str, Any]]


def _build(backbone: Backbone, fields: tuple[Field, ...] = FIELDS, *, seed: int = 0, **parameters: Any) -> CtrModel:
    name, cls, options = backbone
    torch.manual_seed(seed)
    values = checked(cls, {**SMALL.get(name, {}), **options, **parameters}, name)
    return cls(fields, **values)


def _lively(model: CtrModel) -> CtrModel:
    """Make the parameters large enough that every part of the model shows in a logit."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


def _loss(model: CtrModel, batch: CtrBatch) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch), batch.label_B)


def test_all_seven_are_found() -> None:
    names = {case.values[0][0] for case in _backbones()}
    assert {"fm", "wide_deep", "deepfm", "dcn", "pnn", "afm", "afn"} <= names


@BACKBONES
def test_published_parameters_build_it(backbone: Backbone) -> None:
    name, cls, _ = backbone
    for published in CATALOG.find(name).published:
        assert checked(cls, published.parameters, name)


@BACKBONES
@pytest.mark.parametrize("fields", [FIELDS, WITHOUT_NUMBERS, ITEM_FIRST, ITEM_LAST])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_one_finite_logit_a_row(backbone: Backbone, fields: tuple[Field, ...]) -> None:
    model = _build(backbone, fields)
    for mode in (True, False):
        logits_B = model.train(mode)(small_rows(6).batch)
        assert logits_B.shape == (6,) and bool(logits_B.isfinite().all())


@BACKBONES
def test_a_row_alone_scores_as_among_others(backbone: Backbone) -> None:
    model, rows = _lively(_build(backbone)).eval(), small_rows(6)
    alone = torch.cat([model(batch) for batch in rows.batches(1)])
    torch.testing.assert_close(alone, model(rows.batch), rtol=1e-4, atol=1e-4)


@BACKBONES
@pytest.mark.parametrize("start", ["standard", "uniform"])
def test_every_parameter_gets_a_gradient(backbone: Backbone, start: str) -> None:
    model = _lively(_build(backbone, normalization_start=start)).train()
    _loss(model, small_rows(256).batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name


@BACKBONES
def test_parameters_start_within_a_hundredth_normalization_aside(backbone: Backbone) -> None:
    uniform, standard = _build(backbone, normalization_start="uniform"), _build(backbone)
    assert all(float(parameter.detach().abs().max()) <= 0.01 for parameter in uniform.parameters())
    layers = [module for module in standard.modules() if isinstance(module, nn.BatchNorm1d)]
    normalization = {id(parameter): name for layer in layers for name, parameter in layer.named_parameters()}
    for parameter in standard.parameters():
        if id(parameter) in normalization:
            assert set(parameter.tolist()) == ({1.0} if normalization[id(parameter)] == "weight" else {0.0})
        else:
            assert 0 < float(parameter.detach().abs().max()) <= 0.01


@BACKBONES
def test_a_seed_fixes_the_start_and_dropout(backbone: Backbone) -> None:
    batch = small_rows(32).batch
    first, again, other = (_lively(_build(backbone, seed=seed)).train() for seed in (0, 0, 1))
    first_state = {name: value.clone() for name, value in first.state_dict().items()}
    torch.manual_seed(5)
    logits_B = first(batch)
    torch.manual_seed(5)
    assert torch.equal(logits_B, again(batch))
    assert any(not torch.equal(value, first_state[name]) for name, value in other.state_dict().items())


@BACKBONES
@pytest.mark.parametrize("fields", [FIELDS, ITEM_FIRST, ITEM_LAST])
def test_other_item_embeddings_give_what_a_changed_table_gives(backbone: Backbone, fields: tuple[Field, ...]) -> None:
    model, batch = _lively(_build(backbone, fields)).eval(), small_rows(6).batch
    values = model.embed(batch)
    before_B = model(batch)
    table_ID = torch.randn_like(model.item_embedding)
    given_B = model.interact(values.with_item(table_ID[batch.columns["item_id"].long()]))
    with torch.no_grad():
        model.item_embedding.copy_(table_ID)
    torch.testing.assert_close(given_B, model(batch), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(given_B, before_B)


@BACKBONES
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("fields", [FIELDS, ITEM_FIRST, ITEM_LAST])
def test_item_to_logits_is_interact_with_these_items(backbone: Backbone, fields: tuple[Field, ...], mode: str) -> None:
    model, batch = _lively(_build(backbone, fields)).requires_grad_(False), small_rows(200).batch
    if mode == "evaluation":
        model(batch)  # gives running statistics that differ from the initial ones
    model.train(mode == "training")
    values = model.embed(batch)
    logits_of = model.item_to_logits(values)
    for seed in range(2):
        item_BD = torch.randn(200, 16, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        weight_B = torch.linspace(-1, 1, 200)
        torch.manual_seed(seed)
        expected_B = model.interact(values.with_item(item_BD))
        torch.manual_seed(seed)
        given_B = logits_of(item_BD)
        torch.testing.assert_close(given_B, expected_B, rtol=0, atol=1e-5 * float(expected_B.detach().abs().max()))
        (expected_BD,) = torch.autograd.grad((expected_B * weight_B).sum(), item_BD)
        (given_BD,) = torch.autograd.grad((given_B * weight_B).sum(), item_BD)
        assert float(expected_BD.abs().max()) > 0
        torch.testing.assert_close(given_BD, expected_BD, rtol=0, atol=1e-4 * float(expected_BD.abs().max()))


@BACKBONES
def test_summed_padding_adds_the_paddings_row(backbone: Backbone) -> None:
    masked, summed = (_lively(_build(backbone, padding=padding)).eval() for padding in ("masked", "summed"))
    summed.load_state_dict(masked.state_dict())
    batch = small_rows(6).batch
    assert not torch.allclose(masked(batch), summed(batch))
    full = CtrBatch({**batch.columns, "title": batch.columns["title"].clamp(min=1)}, batch.label_B)
    assert torch.equal(masked(full), summed(full))


@BACKBONES
def test_a_batch_of_one_class_leaves_it_finite(backbone: Backbone) -> None:
    model, batch = _build(backbone), small_rows(64).batch
    one_class = CtrBatch(batch.columns, torch.ones(64))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        loss = _loss(model, one_class)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


@BACKBONES
def test_gradients_of_the_item_can_be_differentiated_again(backbone: Backbone) -> None:
    model = _lively(_build(backbone, embedding_size=2)).double().eval().requires_grad_(False)
    values = model.embed(small_rows(3).batch)
    values = replace(values, numbers_BN=values.numbers_BN.double())
    item_BD = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda item_BD: model.interact(values.with_item(item_BD)), item_BD)
    assert torch.autograd.gradgradcheck(model.item_to_logits(values), item_BD)


@BACKBONES
def test_it_learns_the_planted_rule(backbone: Backbone) -> None:
    model, batch = _build(backbone), small_rows(256).batch
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03, fused=True)
    for _ in range(120):
        loss = _loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(((model.eval()(batch) > 0) == (batch.label_B > 0.5)).float().mean()) > 0.9
