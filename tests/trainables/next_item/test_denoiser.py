import math

import pytest
import torch

from trainables.next_item.denoiser import Denoiser, sinusoidal_features


def test_parts_add_up_to_the_plain_form_with_their_gradients() -> None:
    torch.manual_seed(0)
    denoiser, time_B = Denoiser(8, 20), torch.tensor([1, 20, 7])
    x_BD, history_BD = torch.randn(3, 8, requires_grad=True), torch.randn(3, 8, requires_grad=True)
    plain_BD = denoiser(x_BD, history_BD, time_B)
    parts_BD = denoiser.x_part(x_BD) + denoiser.history_part(history_BD) + denoiser.time_part(time_B)
    inputs, direction_BD = [x_BD, history_BD, *denoiser.parameters()], torch.randn(3, 8)
    torch.testing.assert_close(parts_BD, plain_BD, atol=1e-5, rtol=1e-5)
    expected = torch.autograd.grad((plain_BD * direction_BD).sum(), inputs)
    found = torch.autograd.grad((parts_BD * direction_BD).sum(), inputs)
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, reference, atol=1e-5, rtol=1e-5)


def test_sinusoidal_features_by_hand() -> None:
    features_TD = sinusoidal_features(3, 4)
    assert features_TD[2].tolist() == pytest.approx([math.sin(2), math.sin(2e-4), math.cos(2), math.cos(2e-4)])
    assert features_TD[0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("size", [2, 7])
def test_sizes_without_features(size: int) -> None:
    with pytest.raises(ValueError, match="time embedding"):
        sinusoidal_features(3, size)


def test_content_follows_the_values() -> None:
    denoiser = Denoiser(8, 20)
    before = denoiser.content()
    assert denoiser.content() == before
    with torch.no_grad():
        denoiser.layer.weight.neg_()  # an even number of signs leaves the hash of the bits as it was
    assert denoiser.content() != before


def test_content_of_a_denoiser_built_for_inference() -> None:
    with torch.inference_mode():
        denoiser = Denoiser(8, 20)
        before = denoiser.content()
        denoiser.layer.weight.mul_(0.5)
        assert denoiser.content() != before
