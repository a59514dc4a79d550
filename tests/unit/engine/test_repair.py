"""What overflows in half precision is found, computed in float32, and said; the picture goes on."""

import copy

import pytest
import torch
from tiny_engine import job, network
from torch import Tensor

from sfumato.engine import Engine, ImageDone, ImageFailed, Job
from sfumato.errors import NumericalError
from sfumato.models.unet import UNet
from sfumato.models.widening import widened

FEED_FORWARD = "down.0.attention.blocks.0.feed_forward"


def overflowing(part: str = FEED_FORWARD, by: float = 4096.0) -> UNet:
    """In float16, which holds every weight, the product inside a feed-forward layer is beyond its range; at its end it is not."""
    unet = network()
    layer = unet.get_submodule(part)
    layer.proj_in.weight.mul_(by)
    layer.proj_in.bias.mul_(by)
    layer.proj_out.weight.div_(by)
    return unet.half()


def drawn(unet: UNet, *jobs: Job, max_rows: int | None = None) -> list[ImageDone]:
    engine = Engine(unet, max_rows=max_rows)
    for one in jobs or (job(),):
        engine.submit(one)
    return sorted((event for event in engine.run() if isinstance(event, ImageDone)), key=lambda event: event.image)


def near(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_the_picture_goes_on_and_is_that_of_float32() -> None:
    unet = overflowing()
    (done,) = drawn(unet)
    (expected,) = drawn(copy.deepcopy(unet).float())
    assert near(done.x, expected.x) < 0.02
    (note,) = done.notes
    assert FEED_FORWARD in note
    assert "float32" in note
    assert "step 1 of 3" in note
    assert expected.notes == ()


def test_it_is_the_same_picture_each_time_whatever_was_drawn_before() -> None:
    unet = overflowing()
    first, second = drawn(unet)[0], drawn(unet)[0]
    assert torch.equal(first.x, second.x)
    assert first.notes == second.notes
    assert torch.equal(drawn(overflowing())[0].x, first.x)


def test_two_parts_that_overflow_are_both_widened() -> None:
    unet = overflowing()
    for name in ("proj_in", "proj_out"):
        layer = unet.get_submodule(f"up.3.attention.blocks.0.feed_forward.{name}")
        layer.weight.mul_(4096.0) if name == "proj_in" else layer.weight.div_(4096.0)
    (done,) = drawn(unet)
    assert torch.isfinite(done.x).all()
    assert FEED_FORWARD in " ".join(done.notes)
    assert "up.3" in " ".join(done.notes)


def test_images_beside_it_are_repaired_too_each_by_itself() -> None:
    unet = overflowing()
    together = drawn(unet, job(1), job(2), max_rows=8)
    alone = [drawn(unet, job(1))[0], drawn(unet, job(2))[0]]
    assert [near(a.x, b.x) < 0.01 for a, b in zip(together, alone, strict=True)] == [True, True]


def test_half_precision_that_suffices_is_left_alone() -> None:
    (done,) = drawn(network().half())
    assert done.notes == ()


def test_what_no_precision_helps_is_said_as_before() -> None:
    unet = overflowing()
    unet.conv_out.weight.fill_(float("nan"))
    engine = Engine(unet)
    engine.submit(job())
    (failed,) = [event for event in engine.run() if isinstance(event, ImageFailed)]
    assert isinstance(failed.error, NumericalError)
    assert "at step 1 of 3" in str(failed.error)


@pytest.mark.parametrize("part", ["conv_in", "down.0.resnet", "down.0.attention", "time_embedding", "middle.0", ""])
@torch.no_grad()
def test_any_part_can_be_widened(part: str) -> None:
    unet = network().half()
    x, context = torch.randn(2, 4, 8, 8).half(), torch.randn(2, 5, 12).half()
    keys_values = unet.keys_values(context)
    before = unet(x, 500.0, keys_values)
    with widened(unet, [part]):
        wide = unet(x, 500.0, keys_values)
    assert wide.dtype == torch.float16
    assert (
        near(wide.float(), unet.float()(x.float(), 500.0, context.float()))
        < near(before.float(), unet(x.float(), 500.0, context.float())) * 1.5
    )
    unet.half()
    assert torch.equal(unet(x, 500.0, keys_values), before)
