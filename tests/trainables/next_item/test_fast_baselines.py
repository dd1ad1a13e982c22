"""The fast forms of the baselines against torch's own operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trainables.next_item.plain_baselines import PlainBERT4Rec, PlainGRU4Rec, PlainSASRec
from trainables.base import NextItemModel, SequenceBatch
from trainables.next_item.bert4rec import BERT4Rec
from trainables.next_item.gru4rec import GRU4Rec
from trainables.next_item.sasrec import SASRec

ITEMS, LENGTH = 60, 6
PAIRS: list[tuple[type[NextItemModel], type[NextItemModel]]] = [
    (SASRec, PlainSASRec),
    (GRU4Rec, PlainGRU4Rec),
    (BERT4Rec, PlainBERT4Rec),
]


def batches(count: int, rows: int = 12) -> list[SequenceBatch]:
    generator = torch.Generator().manual_seed(3)
    found = []
    for _ in range(count):
        length_B = torch.randint(1, LENGTH + 1, (rows,), generator=generator)
        history_BL = torch.randint(1, ITEMS + 1, (rows, LENGTH), generator=generator)
        history_BL[torch.arange(LENGTH) >= length_B[:, None]] = 0
        found.append(SequenceBatch(history_BL, length_B, torch.randint(1, ITEMS + 1, (rows,), generator=generator)))
    return found


def twins(fast: type[NextItemModel], plain: type[NextItemModel]) -> tuple[NextItemModel, NextItemModel]:
    """Both forms with the same parameters, without dropout, which they draw differently."""
    parameters: dict[str, Any] = {"size": 8, "dropout": 0.0, "learning_rate": 0.01, "weight_decay": 0.1}
    models = [cls(ITEMS, LENGTH, **parameters) for cls in (fast, plain)]
    models[1].load_state_dict(models[0].state_dict())
    return models[0].train(), models[1].train()


@pytest.mark.parametrize(("fast", "plain"), PAIRS, ids=lambda cls: cls.__name__)
def test_loss_and_gradients_equal_the_plain_forms(fast: type[NextItemModel], plain: type[NextItemModel]) -> None:
    models, (batch,) = twins(fast, plain), batches(1)
    losses = []
    for model in models:
        torch.manual_seed(1)
        loss = model.loss(batch)
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    plain_gradients = dict(models[1].named_parameters())
    for name, parameter in models[0].named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.layout == torch.strided
        torch.testing.assert_close(parameter.grad, plain_gradients[name].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("fast", "plain"), PAIRS, ids=lambda cls: cls.__name__)
def test_training_ends_where_the_plain_form_does(fast: type[NextItemModel], plain: type[NextItemModel]) -> None:
    # In float64: AdamW makes whole steps of gradients that are zero but for rounding, as those of a key's bias.
    models = [model.double() for model in twins(fast, plain)]
    for model in models:
        optimizer = model.optimizer()
        for step, batch in enumerate(batches(8)):
            torch.manual_seed(step)
            optimizer.zero_grad(set_to_none=True)
            model.loss(batch).backward()
            optimizer.step()
    expected = models[1].state_dict()
    for name, value in models[0].state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", [SASRec(ITEMS, LENGTH, variant="released"), GRU4Rec(ITEMS, LENGTH, output="own")])
def test_a_table_that_the_loss_does_not_score_has_a_dense_gradient(model: SASRec | GRU4Rec) -> None:
    model.train().loss(batches(1)[0]).backward()
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad.layout == torch.strided
