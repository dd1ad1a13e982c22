import pytest
import torch
from torch import Tensor

from tests.trainables.next_item.sequence_batches import random_batch, select
from trainables.next_item import diffusion_recommender
from trainables.next_item.dreamrec import DreamRec
from trainables.next_item.item_embedding import ItemEmbedding
from trainables.next_item.preferdiff import PreferDiff


def make(**parameters: object) -> DreamRec:
    torch.manual_seed(0)
    return DreamRec(50, 6, size=16, diffusion_steps=40, ddim_steps=4, **parameters).eval()  # type: ignore[arg-type]


@torch.no_grad()
def test_guidance_mixed_before_the_denoiser_equals_two_predictions() -> None:
    """Algorithm 2, lines 9–11, with the denoiser in its plain form."""
    model, batch = make(sampler="ddim", guidance=3.0), random_batch(5)
    torch.manual_seed(1)
    generated_BD = model.generate(batch)

    torch.manual_seed(1)
    history_BD = model.encoder(model.embedding.histories(batch), batch.length_B)
    nothing_BD = model.unconditional_D.expand(5, 16)
    x_BD = torch.randn(5, 16)
    times = [40, 30, 20, 10, 1]
    for time, before in zip(times, [*times[1:], 0], strict=True):
        time_B = torch.full((5,), time)
        clean_BD = 4 * model.denoiser(x_BD, history_BD, time_B) - 3 * model.denoiser(x_BD, nothing_BD, time_B)
        now, then = model.diffusion.alpha_bar[time], model.diffusion.alpha_bar[before]
        noise_BD = (x_BD - now**0.5 * clean_BD) / (1 - now) ** 0.5
        x_BD = then**0.5 * clean_BD + (1 - then) ** 0.5 * noise_BD
    torch.testing.assert_close(generated_BD, x_BD, atol=1e-5, rtol=1e-5)
    torch.manual_seed(1)
    torch.testing.assert_close(model.rank_scores(batch), x_BD @ model.embedding.weight.T, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_ddpm_in_stages_has_the_moments_of_its_steps() -> None:
    model, one = make(sampler="ddpm"), random_batch(1)
    batch = select(one, torch.zeros(20_000, dtype=torch.int64))
    closed_BD = model.generate(batch)
    model.sampler = "ddim"  # takes the same steps one by one
    stepped_BD = model.generate(batch)
    torch.testing.assert_close(closed_BD.mean(0), stepped_BD.mean(0), atol=0.05, rtol=0.02)
    torch.testing.assert_close(closed_BD.T.cov(), stepped_BD.T.cov(), atol=0.05, rtol=0.02)


@torch.no_grad()
def test_ddpm_chain_follows_the_parameters() -> None:
    model, batch = make(sampler="ddpm"), random_batch(3)

    def generated() -> Tensor:
        torch.manual_seed(1)
        return model.generate(batch)

    before_BD = generated()
    assert torch.equal(generated(), before_BD)
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.denoiser.layer.weight.mul_(0.5)
    assert not torch.allclose(generated(), before_BD)
    model.load_state_dict(saved)
    assert torch.equal(generated(), before_BD)
    model.train()
    optimizer = model.optimizer()
    with torch.enable_grad():
        model.loss(batch).backward()
    optimizer.step()
    model.eval()
    fresh = make(sampler="ddpm")
    fresh.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    assert torch.equal(fresh.generate(batch), generated())


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@torch.no_grad()
def test_noise_does_not_depend_on_the_evaluation_batch(sampler: str) -> None:
    model, batch = make(sampler=sampler), random_batch(10)
    torch.manual_seed(1)
    together_BI = model.rank_scores(batch)
    torch.manual_seed(1)
    parts = [model.rank_scores(select(batch, torch.arange(start, min(start + 3, 10)))) for start in range(0, 10, 3)]
    torch.testing.assert_close(torch.cat(parts), together_BI, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_without_noise_scores_follow_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(sampler="ddim"), random_batch(10)
    monkeypatch.setattr(diffusion_recommender.torch, "randn_like", torch.zeros_like)
    order_B = torch.randperm(10)
    scores_BI = model.rank_scores(batch)
    torch.testing.assert_close(model.rank_scores(select(batch, order_B)), scores_BI[order_B])


def test_histories_are_dropped_with_the_given_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(unconditional_probability=0.1), random_batch(4000)
    monkeypatch.setattr(model.denoiser, "time_part", lambda time_B: torch.zeros(len(time_B), 16))
    torch.manual_seed(0)
    time_B, context_BD = model.training_context(model.embedding.histories(batch), batch.length_B)
    unconditional_D = model.denoiser.history_part(model.unconditional_D)
    dropped_B = torch.isclose(context_BD, unconditional_D, atol=1e-5).all(dim=1)
    assert float(dropped_B.float().mean()) == pytest.approx(0.1, abs=0.02)
    assert (int(time_B.min()), int(time_B.max())) == (1, 40)


def test_dreamrec_is_preferdiff_without_cosine_and_negatives() -> None:
    """Table 2: w/o-C&N equals DreamRec."""
    dreamrec, batch = make(), random_batch(8)
    preferdiff = PreferDiff(50, 6, size=16, diffusion_steps=40, measure="l2", balance=1).eval()
    preferdiff.load_state_dict(dreamrec.state_dict())
    losses = []
    for model in (dreamrec, preferdiff):
        torch.manual_seed(3)
        losses.append(model.loss(batch))
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("method", [DreamRec, PreferDiff])
def test_item_embeddings_start_as_they_are_told_and_nothing_else(method: type[DreamRec | PreferDiff]) -> None:
    """Both distributions are drawn from the same normal numbers, so that what is drawn afterwards is the same."""
    models = []
    for chosen in ({}, {"initialization": "kaiming_normal"}):
        torch.manual_seed(0)
        models.append(method(50, 6, size=16, diffusion_steps=40, **chosen))  # type: ignore[arg-type]
    torch.manual_seed(0)
    assert torch.equal(models[1].embedding.weight, ItemEmbedding(50, 16, initialization="kaiming_normal").weight)
    differing = [
        name for name, tensor in models[0].state_dict().items() if not torch.equal(tensor, models[1].state_dict()[name])
    ]
    assert differing == ["embedding.weight"]


def test_gradients_reach_targets_and_histories() -> None:
    model, batch = make(unconditional_probability=0.0), random_batch(4)
    model.loss(batch).backward()
    gradient_ID = model.embedding.weight.grad
    assert gradient_ID is not None
    touched = {row + 1 for row in range(50) if bool(gradient_ID[row].any())}
    assert touched == (set(batch.history_BL.unique().tolist()) | set(batch.target_B.tolist())) - {0}
