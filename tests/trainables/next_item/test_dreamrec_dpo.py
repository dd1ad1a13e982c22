import math

import pytest
import torch

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.base import SequenceBatch
from trainables.next_item.dreamrec import DreamRec
from trainables.next_item.dreamrec_dpo import DreamRecDPO, other_targets

SMALL = {"size": 8, "diffusion_steps": 20, "sampler": "ddim", "ddim_steps": 4}


def make(**parameters: object) -> tuple[DreamRecDPO, DreamRec]:
    torch.manual_seed(0)
    reference = DreamRec(50, 6, **SMALL).eval()  # type: ignore[arg-type]
    model = DreamRecDPO(50, 6, **{**SMALL, **parameters})  # type: ignore[arg-type]
    model.start_from(reference.state_dict())
    return model.eval(), reference


@pytest.mark.parametrize("encoder", ["transformer", "gru"])
@pytest.mark.parametrize("objective", ["sample", "diffusion"])
def test_training_starts_from_log_2_whatever_the_dropout(objective: str, encoder: str) -> None:
    """Policy and reference are one model at first, so that nothing but noise could tell them apart."""
    torch.manual_seed(0)
    shape = {**SMALL, "size": 64, "encoder": encoder, "dropout": 0.1}
    reference = DreamRec(50, 6, **shape)  # type: ignore[arg-type]
    model = DreamRecDPO(50, 6, objective=objective, beta=5.0, **shape)  # type: ignore[arg-type]
    model.start_from(reference.state_dict())
    loss = model.train().loss(random_batch(64))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-4)
    loss.backward()
    gradients = [parameter.grad for parameter in model.encoder.parameters()]
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)
    assert model.encoder.training
    assert model.embedding.training


def moved(model: DreamRecDPO) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("embedding"):
                parameter += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize("objective", ["sample", "diffusion"])
@torch.no_grad()
def test_at_the_reference_the_loss_is_log_2(objective: str) -> None:
    model, reference = make(objective=objective, beta=5.0)
    batch = random_batch(16)
    assert float(model.loss(batch)) == pytest.approx(math.log(2), abs=1e-4)
    torch.manual_seed(1)
    before = model.rank_scores(batch)
    torch.manual_seed(1)
    torch.testing.assert_close(before, reference.rank_scores(batch))


@pytest.mark.parametrize("objective", ["sample", "diffusion"])
@torch.no_grad()
def test_loss_equals_a_loop_over_rows(objective: str) -> None:
    model, reference = make(objective=objective, beta=0.3, unconditional_probability=0.4)
    moved(model)
    batch = random_batch(7)
    torch.manual_seed(5)
    loss = float(model.loss(batch))

    torch.manual_seed(5)
    other_B = other_targets(batch.target_B)
    dropped_B = (torch.rand(7, 1) < 0.4).squeeze(1)
    time_B = torch.randint(1, 21, (7,)) if objective == "diffusion" else torch.full((7,), 20)
    noise_BD = torch.randn(7, 8)
    total, pairs = 0.0, 0
    for row in range(7):
        if other_B[row] == batch.target_B[row]:
            continue
        pairs += 1
        margins = []
        for either in (model, reference):
            state_1D = either.encoder(either.embedding.histories(batch)[row][None], batch.length_B[row][None])
            state_1D = either.unconditional_D[None] if dropped_B[row] else state_1D
            errors = []
            for item in (batch.target_B[row], other_B[row]):
                clean_D = reference.embedding.weight[item - 1]
                alpha_bar = model.diffusion.alpha_bar[int(time_B[row])]
                start_D = noise_BD[row]
                if objective == "diffusion":
                    start_D = alpha_bar**0.5 * clean_D + (1 - alpha_bar) ** 0.5 * start_D
                predicted_D = either.denoiser(start_D[None], state_1D, time_B[row][None])[0]
                errors.append(sum((a - b) ** 2 for a, b in zip(predicted_D.tolist(), clean_D.tolist(), strict=True)))
            margins.append(errors[0] - errors[1])
        total += math.log1p(math.exp(0.3 * (margins[0] - margins[1])))
    assert pairs > 3
    assert loss == pytest.approx(total / pairs, rel=1e-3)


@pytest.mark.parametrize("objective", ["sample", "diffusion"])
def test_training_moves_the_model_but_neither_items_nor_reference(objective: str) -> None:
    model, reference = make(objective=objective, learning_rate=0.01)
    model.train()
    optimizer, losses = model.optimizer(), []
    for step in range(60):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = model.loss(random_batch(32))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < sum(losses[:10])
    assert torch.equal(model.embedding.weight, reference.embedding.weight)
    (kept,) = model._reference
    expected = reference.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in kept.state_dict().items())
    assert not torch.equal(model.denoiser.layer.weight, reference.denoiser.layer.weight)
    assert model.state_dict().keys() == reference.state_dict().keys()


def test_a_model_without_a_reference_says_so() -> None:
    model = DreamRecDPO(50, 6, **SMALL)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give its row starts_from"):
        model.loss(random_batch(4))


@torch.no_grad()
def test_a_row_without_another_target_counts_for_nothing() -> None:
    model, _ = make()
    batch = random_batch(3)
    alike = SequenceBatch(batch.history_BL, batch.length_B, torch.full((3,), 7, dtype=torch.int32))
    assert float(model.loss(alike)) == 0
    assert float(model.loss(random_batch(1))) == 0


def test_another_rows_target_is_drawn() -> None:
    torch.manual_seed(0)
    target_B = torch.arange(1, 6)
    drawn = torch.stack([other_targets(target_B) for _ in range(400)])
    assert not bool((drawn == target_B).any())
    assert all(len(drawn[:, row].unique()) == 4 for row in range(5))
