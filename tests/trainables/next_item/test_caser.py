import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.next_item.caser import Caser

LENGTH, SIZE = 6, 8


def make(**parameters: object) -> Caser:
    torch.manual_seed(0)
    model = Caser(50, LENGTH, size=SIZE, horizontal_filters=3, vertical_filters=2, **parameters)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def by_hand(model: Caser, items: list[int]) -> Tensor:
    """Eq. 3–10 in loops, the history at the end of an image of zeros; scores [I]."""
    image_LD = torch.zeros(LENGTH, SIZE)
    for place, item in enumerate(items, start=LENGTH - len(items)):
        image_LD[place] = model.embedding.weight[item - 1]
    features = []
    for height, filters in enumerate(model.horizontal, start=1):
        assert isinstance(filters, nn.Conv1d) and filters.bias is not None
        for weight_Dh, bias in zip(filters.weight, filters.bias, strict=True):
            places = range(LENGTH - height + 1)
            values = [(image_LD[p : p + height].T * weight_Dh).sum() + bias for p in places]
            features.append(max(value.clamp(min=0) for value in values))
    for dimension in range(SIZE):
        features += [image_LD[:, dimension] @ weight_L for weight_L in model.vertical.weight]
    state_D = model.combine(torch.stack(features)).clamp(min=0)
    return torch.stack(
        [state_D @ item_D + bias for item_D, bias in zip(model.output.weight, model.bias_I, strict=True)]
    )


@torch.no_grad()
def test_scores_are_those_of_the_equations() -> None:
    model, batch = make().eval(), random_batch(5)
    rows = zip(batch.history_BL.tolist(), batch.length_B.tolist(), strict=True)
    expected = torch.stack([by_hand(model, history[:length]) for history, length in rows])
    torch.testing.assert_close(model.rank_scores(batch), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_loss_is_the_cross_entropy_of_the_ranking_scores() -> None:
    model, batch = make().eval(), random_batch(9)
    expected = functional.cross_entropy(model.rank_scores(batch), batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), expected)


def test_heights_stop_at_the_historys_length() -> None:
    assert len(make(largest_height=50).horizontal) == LENGTH
    assert len(make(largest_height=4).horizontal) == 4


def test_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    model, batch = Caser(50, LENGTH, size=32, learning_rate=0.01, dropout=0.1), random_batch(64)
    optimizer, losses = model.optimizer(), []
    for _ in range(120):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1 < 3 < losses[0]
