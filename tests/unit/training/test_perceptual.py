"""The distance by features: a blur is far where pixels say it is near."""

import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from sfumato.training.perceptual import PerceptualDistance
from sfumato.training.vae import to_pixels


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    return PerceptualDistance()


@pytest.fixture(scope="module")
def drawing() -> torch.Tensor:
    """A picture with edges, `1 3 64 64`."""
    page = Image.new("RGB", (64, 64), "white")
    pen = ImageDraw.Draw(page)
    pen.rectangle((6, 6, 36, 36), fill="red", outline="black", width=2)
    for x in range(40, 60, 4):
        pen.line((x, 8, x, 56), fill="blue", width=2)
    return to_pixels(torch.tensor(list(page.tobytes()), dtype=torch.uint8).view(1, 64, 64, 3))


def test_a_picture_is_at_no_distance_from_itself(distance, drawing):
    assert distance(drawing, drawing) == 0


def test_a_blur_is_farther_than_another_shade_with_the_same_error(distance, drawing):
    blurred = F.avg_pool2d(F.pad(drawing, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    error = (blurred - drawing).square().mean().sqrt()
    shaded = drawing * (1 - error / drawing.square().mean().sqrt())
    assert (shaded - drawing).square().mean().sqrt().item() == pytest.approx(error.item(), rel=1e-4)
    assert distance(blurred, drawing) > 2 * distance(shaded, drawing) > 0


def test_pixels_learn_from_it_and_the_classifier_does_not(distance, drawing):
    pixels = (drawing + 0.1 * torch.randn(drawing.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    before = distance(pixels, drawing)
    before.backward()
    assert pixels.grad is not None
    step = pixels.grad * (0.05 * before.item() / pixels.grad.square().sum())
    with torch.no_grad():
        assert distance(pixels - step, drawing) < before
    assert not any(weight.requires_grad or weight.grad is not None for weight in distance.parameters())
