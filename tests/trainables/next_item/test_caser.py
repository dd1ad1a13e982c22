from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import of_each_history, random_batch
from trainables.next_item.caser import Caser

LENGTH, SIZE, USERS = 6, 8, 5


def make(users: int | None = None, **parameters: object) -> Caser:
    torch.manual_seed(0)
    shape = {"size": SIZE, "horizontal_filters": 3, "vertical_filters": 2}
    model = Caser(50, LENGTH, users, **{**shape, **parameters})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def by_hand(model: Caser, items: list[int], user: int | None = None) -> Tensor:
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
    if user is not None:
        assert model.user is not None
        state_D = torch.cat([state_D, model.user.weight[user]])
    return torch.stack(
        [state_D @ item_D + bias for item_D, bias in zip(model.output.weight, model.bias_I, strict=True)]
    )


@torch.no_grad()
def test_scores_are_those_of_the_equations() -> None:
    model, batch = make().eval(), random_batch(5)
    expected = of_each_history(batch, partial(by_hand, model))
    torch.testing.assert_close(model.rank_scores(batch), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_users_stand_beside_what_the_convolutions_say() -> None:
    model, batch = make(USERS).eval(), random_batch(9, users=USERS)
    assert batch.user_B is not None and len(batch.user_B.unique()) > 2
    expected = of_each_history(batch, partial(by_hand, model))
    torch.testing.assert_close(model.rank_scores(batch), expected, atol=1e-4, rtol=1e-4)
    loss = functional.cross_entropy(expected, batch.target_B.long() - 1)
    torch.testing.assert_close(model.loss(batch), loss, atol=1e-4, rtol=1e-4)


def test_users_have_to_be_told_to_what_is_built_with_them() -> None:
    with pytest.raises(ValueError, match=r"the batch tells no users, .* build it with users=None"):
        make(USERS).rank_scores(random_batch(3))


def test_weights_start_as_in_the_authors_program() -> None:
    """models/caser.py: normal, with deviation 1/d for items and users, and 1/2d for the output layer's 2d."""
    torch.manual_seed(0)
    model = Caser(400, LENGTH, 400, size=64)
    assert model.user is not None
    for table, width in ((model.embedding.weight, 64), (model.user.weight, 64), (model.output.weight, 128)):
        assert table.shape == (400, width)
        assert float(table.detach().std()) == pytest.approx(1 / width, rel=0.02)


def test_without_users_weights_are_drawn_as_if_there_were_none() -> None:
    torch.manual_seed(0)
    model, after = Caser(50, LENGTH, size=SIZE, horizontal_filters=3, vertical_filters=2), torch.rand(3)
    torch.manual_seed(0)
    embedding_ID = torch.randn(50, SIZE)
    drawn = nn.ModuleList(
        [*(nn.Conv1d(SIZE, 3, height) for height in range(1, 6)), nn.Linear(LENGTH, 2, bias=False), nn.Linear(31, SIZE)]
    )
    tables = [embedding_ID / SIZE, *drawn.parameters(), torch.randn(50, SIZE) / SIZE]
    found = [parameter for name, parameter in model.named_parameters() if name != "bias_I"]
    assert len(found) == len(tables)
    assert all(torch.equal(one, other) for one, other in zip(found, tables, strict=True))
    assert torch.equal(torch.rand(3), after)


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
