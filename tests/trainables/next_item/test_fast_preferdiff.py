"""PreferDiff's fast form against its plain form, and what bfloat16 changes."""

import copy

import pytest
import torch
from torch import Tensor

from tests.trainables.next_item.plain_preferdiff import PlainPreferDiff
from tests.trainables.next_item.sequence_batches import random_batch
from trainables.next_item.preferdiff import PreferDiff

SIZES = {"size": 16, "diffusion_steps": 40, "ddim_steps": 5, "dropout": 0.0, "learning_rate": 1e-2}


def make(cls: type[PreferDiff], **parameters: object) -> PreferDiff:
    torch.manual_seed(0)
    model = cls(50, 6, **(SIZES | parameters))  # type: ignore[arg-type]
    with torch.no_grad():  # away from the initial values, at which norms and biases are too simple to tell forms apart
        for name, parameter in model.named_parameters():
            if name != "embedding.weight":
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.train()


def loss_of(model: PreferDiff, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return model.loss(random_batch(9, seed=seed))


def test_loss_and_gradients_equal_the_plain_forms() -> None:
    fast, plain = make(PreferDiff), make(PlainPreferDiff)
    for model in (fast, plain):
        loss_of(model, 3).backward()
    torch.testing.assert_close(loss_of(fast, 3), loss_of(plain, 3), atol=1e-5, rtol=1e-5)
    for (name, found), (_, expected) in zip(fast.named_parameters(), plain.named_parameters(), strict=True):
        assert found.grad is not None, name
        assert expected.grad is not None, name
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_trains_as_the_plain_form_with_torchs_dense_adamw(weight_decay: float) -> None:
    fast, plain = (make(cls, weight_decay=weight_decay) for cls in (PreferDiff, PlainPreferDiff))
    for model in (fast, plain):
        optimizer = model.optimizer()
        for step in range(40):
            optimizer.zero_grad(set_to_none=True)
            loss_of(model, step).backward()
            optimizer.step()
        model.eval()
    start = make(PreferDiff).state_dict()
    for (name, found), expected in zip(fast.state_dict().items(), plain.state_dict().values(), strict=True):
        way = (expected - start[name]).norm()
        assert float((found - expected).norm()) < 2e-3 * float(way), name


@torch.no_grad()
def test_ranks_as_the_plain_form() -> None:
    fast, plain, batch = make(PreferDiff).eval(), make(PlainPreferDiff).eval(), random_batch(30)
    scores = []
    for model in (fast, plain):
        torch.manual_seed(1)
        scores.append(model.rank_scores(batch))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=1e-5)
    assert torch.equal(scores[0].topk(10).indices, scores[1].topk(10).indices)


def test_bfloat16_stays_near_float32_and_trains() -> None:
    low, full = make(PreferDiff, precision="bfloat16"), make(PreferDiff)
    torch.testing.assert_close(loss_of(low, 2), loss_of(full, 2), atol=0.05, rtol=0.05)
    assert not torch.equal(loss_of(low, 2), loss_of(full, 2))
    optimizer, losses = low.optimizer(), []
    for step in range(60):
        optimizer.zero_grad()
        loss = loss_of(low, step % 3)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert all(parameter.dtype == torch.float32 for parameter in low.parameters())


@torch.no_grad()
def test_bfloat16_copies_follow_the_parameters() -> None:
    model, other, batch = (
        make(PreferDiff, precision="bfloat16"),
        make(PreferDiff, precision="bfloat16"),
        random_batch(4),
    )
    with torch.enable_grad():
        optimizer = model.optimizer()
        for step in range(3):
            loss_of(model, step).backward()
            optimizer.step()
            optimizer.zero_grad()
    other.eval().rank_scores(batch)  # so that it has copies, of what it is about to lose
    other.load_state_dict(model.state_dict())
    scores = []
    for one in (model.eval(), other):
        torch.manual_seed(0)
        scores.append(one.rank_scores(batch))
    assert torch.equal(scores[0], scores[1])


@torch.no_grad()
def test_a_checkpoint_is_evaluated_with_other_guidance_and_steps() -> None:
    trained, batch = make(PreferDiff, guidance=2.0), random_batch(5)
    for changed in ({"guidance": 6.0}, {"ddim_steps": 20}, {"sampler": "ddpm"}, {"precision": "bfloat16"}):
        model = PreferDiff(50, 6, **(SIZES | changed)).eval()  # type: ignore[arg-type]
        model.load_state_dict(copy.deepcopy(trained.state_dict()))
        scores = []
        for one in (trained.eval(), model):
            torch.manual_seed(0)
            scores.append(one.rank_scores(batch))
        assert scores[1].isfinite().all()
        assert not torch.equal(scores[0], scores[1]), changed


def test_a_recurrent_encoder_trains_under_the_diffusion() -> None:
    model = make(PreferDiff, encoder="gru")
    optimizer, losses = model.optimizer(), []
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for step in range(60):
        optimizer.zero_grad()
        loss = loss_of(model, step % 3)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert not any(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
