import pytest
import torch
from torch import Tensor

from trainables.next_item.augmentations import crop, mask, reorder

ROWS, LENGTH = 600, 10


@pytest.fixture(params=[1, 2, 5, 9, 10])
def length(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def numbered(length: int) -> tuple[Tensor, Tensor]:
    """Histories 1, 2, … n, so that an id tells where it was."""
    torch.manual_seed(0)
    history_L = torch.arange(1, LENGTH + 1) * (torch.arange(LENGTH) < length)
    return history_L.int().repeat(ROWS, 1), torch.full((ROWS,), length, dtype=torch.int32)


def test_crop_keeps_a_run_that_starts_anywhere(length: int) -> None:
    cropped_BL, length_B = crop(*numbered(length), 0.6)
    kept = max(1, int(length * 0.6))
    assert set(length_B.tolist()) == {kept}
    assert not bool(cropped_BL[:, kept:].any())
    starts = cropped_BL[:, 0]
    assert set(starts.tolist()) == set(range(1, length - kept + 2))
    assert torch.equal(cropped_BL[:, :kept], starts[:, None] + torch.arange(kept))


def test_mask_hides_a_share_anywhere(length: int) -> None:
    history_BL, length_B = numbered(length)
    masked_BL, same_B = mask(history_BL, length_B, 0.3)
    assert torch.equal(same_B, length_B)
    hidden_BL = masked_BL != history_BL
    assert set(hidden_BL.sum(1).tolist()) == {int(length * 0.3)}
    assert not bool(masked_BL[hidden_BL].any())
    assert bool(hidden_BL[:, :length].any(0).all()) == (int(length * 0.3) > 0)


def test_reorder_shuffles_a_run_alone(length: int) -> None:
    history_BL, length_B = numbered(length)
    reordered_BL, same_B = reorder(history_BL, length_B, 0.6)
    assert torch.equal(same_B, length_B)
    assert torch.equal(reordered_BL.sort(1).values, history_BL.sort(1).values)
    assert torch.equal(reordered_BL[:, length:], history_BL[:, length:])
    position_L = torch.arange(LENGTH)
    moved_BL = reordered_BL != history_BL
    first_B = torch.where(moved_BL, position_L, LENGTH).amin(1)
    last_B = torch.where(moved_BL, position_L, -1).amax(1)
    run = int(length * 0.6)
    assert int((last_B - first_B + 1).amax()) == (run if run > 1 else -LENGTH)


def test_all_orders_of_a_run_occur() -> None:
    history_BL, length_B = numbered(5)
    reordered_BL, _ = reorder(history_BL, length_B, 0.6)
    from_start = {tuple(row[:3].tolist()) for row in reordered_BL if row[3] == 4 and row[4] == 5}
    assert len(from_start) == 6


def test_share_0_and_1() -> None:
    history_BL, length_B = numbered(5)
    assert torch.equal(crop(history_BL, length_B, 1.0)[0], history_BL)
    assert torch.equal(mask(history_BL, length_B, 0.0)[0], history_BL)
    assert not bool(mask(history_BL, length_B, 1.0)[0].any())
    assert torch.equal(reorder(history_BL, length_B, 0.0)[0], history_BL)
