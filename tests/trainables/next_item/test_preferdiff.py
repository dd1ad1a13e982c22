import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.base import SequenceBatch
from trainables.next_item.preferdiff import PreferDiff, centroids, drawn_others

ROWS = 5


def make(**parameters: object) -> PreferDiff:
    torch.manual_seed(0)
    model = PreferDiff(50, 6, size=8, diffusion_steps=30, ddim_steps=3, **parameters)  # type: ignore[arg-type]
    return model.eval()


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def huber(x: float) -> float:
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


ERRORS: dict[str, Callable[[list[float], list[float]], float]] = {
    "cosine": lambda a, b: 1 - cosine(a, b),
    "l2": lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a),
    "l1": lambda a, b: sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a),
    "huber": lambda a, b: sum(huber(x - y) for x, y in zip(a, b, strict=True)) / len(a),
}


class Draws:
    """The random draws of one loss, in the order in which it makes them."""

    def __init__(self, model: PreferDiff) -> None:
        torch.manual_seed(7)
        self.kept_B = torch.rand(ROWS, 1).squeeze(1) >= model.unconditional_probability
        self.time_B = torch.randint(1, 31, (ROWS,))
        self.positive_BD = torch.randn(ROWS, 8)
        self.others = [[other for other in range(ROWS) if other != row] for row in range(ROWS)]
        if model.negative_samples is not None and model.negative_samples < ROWS - 1:
            self.others = drawn_others(ROWS, model.negative_samples).tolist()
        self.negative = torch.randn(ROWS, len(self.others[0]), 8) if model.negatives == "each" else torch.randn(ROWS, 8)


def by_loops(model: PreferDiff, batch: SequenceBatch) -> float:
    """Algorithm 1 for each user and each negative, with the denoiser in its plain form."""
    draws = Draws(model)
    error, table = ERRORS[model.measure], model.embedding.weight
    positive, negative = [0.0] * ROWS, [0.0] * ROWS

    def distance(row: int, clean_D: Tensor, noise_D: Tensor) -> float:
        alpha_bar = model.diffusion.alpha_bar[int(draws.time_B[row])]
        noised_D = alpha_bar**0.5 * clean_D + (1 - alpha_bar) ** 0.5 * noise_D
        embedded_1LD = model.embedding.histories(batch)[row][None]
        state_1D = model.encoder(embedded_1LD, batch.length_B[row][None])
        if not draws.kept_B[row]:
            state_1D = model.unconditional_D[None]
        predicted_D = model.denoiser(noised_D[None], state_1D, draws.time_B[row][None])[0]
        value = error(predicted_D.tolist(), clean_D.tolist())
        return value**2 if model.variant == "released" and model.measure == "cosine" else value

    for row in range(ROWS):
        positive[row] = distance(row, table[batch.target_B[row] - 1], draws.positive_BD[row])
        others = [table[batch.target_B[other] - 1] for other in draws.others[row]]
        if model.negatives == "each":
            parts = [distance(row, item_D, draws.negative[row, v]) for v, item_D in enumerate(others)]
            negative[row] = sum(parts) / len(parts)
        else:
            negative[row] = distance(row, torch.stack(others).mean(0), draws.negative[row])
    margins = [p - n for p, n in zip(positive, negative, strict=True)]
    if model.variant == "released":
        preference = math.log1p(math.exp((model.margin_scale or 5) * sum(margins) / ROWS))
    else:
        scale = model.margin_scale or len(draws.others[0])
        preference = sum(math.log1p(math.exp(scale * margin)) for margin in margins) / ROWS
    return model.balance * sum(positive) / ROWS + (1 - model.balance) * preference


@pytest.mark.parametrize("negatives", ["centroid", "each"])
@pytest.mark.parametrize("measure", ["cosine", "l2", "l1", "huber"])
@torch.no_grad()
def test_loss_equals_a_double_loop(measure: str, negatives: str) -> None:
    model = make(measure=measure, negatives=negatives, balance=0.3, unconditional_probability=0.4)
    batch = random_batch(ROWS)
    torch.manual_seed(7)
    assert float(model.loss(batch)) == pytest.approx(by_loops(model, batch), rel=1e-4)


@pytest.mark.parametrize("negative_samples", [1, 3])
@pytest.mark.parametrize("negatives", ["centroid", "each"])
@torch.no_grad()
def test_loss_with_some_of_the_negatives_equals_a_double_loop(negatives: str, negative_samples: int) -> None:
    """Figure 6: both the negatives and the scale |H| are fewer."""
    model, batch = make(negatives=negatives, negative_samples=negative_samples, balance=0.3), random_batch(ROWS)
    torch.manual_seed(7)
    assert float(model.loss(batch)) == pytest.approx(by_loops(model, batch), rel=1e-4)


@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize("variant", ["paper", "released"])
@torch.no_grad()
def test_with_some_of_the_negatives_the_scale_is_the_variants_or_the_given_one(
    variant: str, scale: float | None
) -> None:
    model, batch = make(variant=variant, negative_samples=2, balance=0.2, margin_scale=scale), random_batch(ROWS)
    torch.manual_seed(7)
    assert float(model.loss(batch)) == pytest.approx(by_loops(model, batch), rel=1e-4)


def loss_over_all_others(model: PreferDiff, batch: SequenceBatch) -> Tensor:
    """The loss operation by operation, with no draw but times, dropped histories and noise."""
    history_BLD, target_BD = model.embedding.histories_and_targets(batch)
    time_B, context_BD = model.training_context(history_BLD, batch.length_B)
    positive_B = 1 - torch.cosine_similarity(model.denoised(target_BD, time_B, context_BD), target_BD, dim=-1)
    if model.negatives == "each":
        other_BN = torch.tensor([[other for other in range(ROWS) if other != row] for row in range(ROWS)])
        negative_BND = target_BD[other_BN]
        predicted_BND = model.denoised(negative_BND, time_B, context_BD[:, None])
        negative_B = (1 - torch.cosine_similarity(predicted_BND, negative_BND, dim=-1)).mean(1)
    else:
        centroid_BD = (target_BD.sum(0) - target_BD) / (ROWS - 1)
        predicted_BD = model.denoised(centroid_BD, time_B, context_BD)
        negative_B = 1 - torch.cosine_similarity(predicted_BD, centroid_BD, dim=-1)
    preference = -torch.nn.functional.logsigmoid(-(ROWS - 1) * (positive_B - negative_B)).mean()
    return model.balance * positive_B.mean() + (1 - model.balance) * preference


@pytest.mark.parametrize("negative_samples", [None, ROWS - 1, 255])
@pytest.mark.parametrize("negatives", ["centroid", "each"])
def test_all_the_negatives_are_taken_without_a_draw_and_to_the_bit(
    negatives: str, negative_samples: int | None
) -> None:
    found = []
    for loss in (PreferDiff.loss, loss_over_all_others):
        model = make(negatives=negatives, negative_samples=negative_samples).train()
        torch.manual_seed(7)
        value = loss(model, random_batch(ROWS))
        next_draw = torch.rand(())
        value.backward()  # type: ignore[no-untyped-call]
        found.append([value.detach(), next_draw, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


def test_drawn_others_are_different_rows_in_all_sets_equally_often() -> None:
    torch.manual_seed(0)
    times, seen = 6000, [dict[frozenset[int], int]() for _ in range(4)]
    for _ in range(times):
        for row, chosen in enumerate(drawn_others(4, 2).tolist()):
            seen[row][frozenset(chosen)] = seen[row].get(frozenset(chosen), 0) + 1
    for row in range(4):
        sets = {frozenset({a, b}) for a in range(4) for b in range(a) if row not in (a, b)}
        assert set(seen[row]) == sets
        # Three sets: χ² of two degrees of freedom exceeds 13.8 once in a thousand.
        assert sum((count - times / 3) ** 2 / (times / 3) for count in seen[row].values()) < 13.8


def test_every_batch_draws_its_negatives_anew() -> None:
    torch.manual_seed(0)
    assert not torch.equal(drawn_others(20, 5), drawn_others(20, 5))


@pytest.mark.parametrize("count", [1, 7, 30])
def test_centroids_and_their_gradients_are_those_of_gathered_targets(count: int) -> None:
    torch.manual_seed(0)
    other_BN, weight_BD = drawn_others(31, count), torch.randn(31, 5)
    values, gradients = [], []
    for mean in (centroids, lambda target_BD, other_BN: target_BD[other_BN].mean(1)):
        target_BD = torch.randn(31, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
        values.append(mean(target_BD, other_BN))
        gradients += torch.autograd.grad((values[-1] * weight_BD).sum(), target_BD)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("measure", ["cosine", "l2"])
@torch.no_grad()
def test_released_loss_equals_a_double_loop(measure: str) -> None:
    model, batch = make(variant="released", measure=measure), random_batch(ROWS)
    torch.manual_seed(7)
    assert float(model.loss(batch)) == pytest.approx(by_loops(model, batch), rel=1e-4)


@pytest.mark.parametrize("variant", ["paper", "released"])
@torch.no_grad()
def test_another_margin_scale_stands_for_the_variants_own(variant: str) -> None:
    values = []
    for scale in (None, 3.0):
        model, batch = make(variant=variant, balance=0.2, margin_scale=scale), random_batch(ROWS)
        torch.manual_seed(7)
        values.append(float(model.loss(batch)))
        assert values[-1] == pytest.approx(by_loops(model, batch), rel=1e-4)
    assert values[0] != pytest.approx(values[1], rel=1e-3)


@torch.no_grad()
def test_variants_differ() -> None:
    values = []
    for variant in ("paper", "released"):
        torch.manual_seed(7)
        values.append(float(make(variant=variant).loss(random_batch(ROWS))))
    assert values[0] != pytest.approx(values[1], rel=0.01)


def test_balance_1_leaves_the_generation_alone() -> None:
    """Table 2, w/o-N."""
    model, batch = make(balance=1), random_batch(ROWS)
    torch.manual_seed(7)
    loss = model.loss(batch)
    torch.manual_seed(7)
    history_BLD, target_BD = model.embedding.histories_and_targets(batch)
    time_B, context_BD = model.training_context(history_BLD, batch.length_B)
    predicted_BD = model.denoised(target_BD, time_B, context_BD)
    torch.testing.assert_close(loss, (1 - torch.cosine_similarity(predicted_BD, target_BD)).mean())


def test_a_batch_of_one_has_no_negatives() -> None:
    model = make(balance=0.5)
    loss = model.loss(random_batch(1))
    loss.backward()
    assert math.isfinite(loss.item())


@pytest.mark.parametrize("negatives", ["centroid", "each"])
def test_targets_receive_gradients_as_positives_and_as_negatives(negatives: str) -> None:
    """The gradient of each target's embedding, which is a negative of all other rows, against central differences."""
    model, batch = make(negatives=negatives, balance=0.1).double(), random_batch(ROWS)
    table_ID = model.embedding.weight

    def loss_at(item: int, shift_D: Tensor) -> Tensor:
        torch.manual_seed(7)
        with torch.no_grad():
            table_ID[item] += shift_D
            loss = model.loss(batch)
            table_ID[item] -= shift_D
        return loss

    torch.manual_seed(7)
    model.loss(batch).backward()
    gradient_ID = table_ID.grad
    assert gradient_ID is not None
    for item in (batch.target_B.long() - 1).tolist():
        step_D = 1e-5 * torch.randn(8).double()
        gain = (loss_at(item, step_D) - loss_at(item, -step_D)) / 2
        torch.testing.assert_close(torch.dot(gradient_ID[item], step_D), gain, rtol=1e-4, atol=0.0)


def test_the_released_program_has_no_loss_over_each_negative() -> None:
    with pytest.raises(ValueError, match="variant 'paper'"):
        make(variant="released", negatives="each")


def test_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    model = PreferDiff(200, 6, size=32, learning_rate=0.01, variant="released")
    batch, optimizer = random_batch(64, items=200), model.optimizer()
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        best_B = model.rank_scores(batch).argmax(1) + 1
    assert float((best_B == batch.target_B).float().mean()) > 0.6
