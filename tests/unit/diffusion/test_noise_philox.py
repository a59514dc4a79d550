"""CUDA's normal numbers, held to published vectors, to known pictures of a seed, and to the kernel written as its loops."""

import math
import struct

import numpy as np
import pytest
import torch

from sfumato.diffusion.noise_philox import PhiloxGenerator, box_muller, philox4x32

# Known answers of the Random123 library's own tests (`kat_vectors`, philox4x32, 10 rounds).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def words(*values: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array([value], np.uint32) for value in values)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_published_vectors(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    made = philox4x32(words(*counter), key[0] | key[1] << 32)  # type: ignore[arg-type]
    assert tuple(int(word[0]) for word in made) == expected


def test_seed_0_draws_what_cuda_and_the_web_ui_draw() -> None:
    """`torch.randn(3, 4, device="cuda")` after `torch.manual_seed(0)`, as the description of the web UI's generator prints it.

    The last digit is not that generator's own, whose 2π is a float32: that is off by 1e-7 of the angle.
    """
    expected = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    drawn = PhiloxGenerator(0).row((3, 4), 0, 1)
    assert drawn.dtype == torch.float32
    np.testing.assert_allclose(drawn.numpy(), expected, rtol=0, atol=3e-7)


def scalar_philox(counter: list[int], key: list[int]) -> list[int]:
    """The algorithm of the paper, one number at a time."""
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = right >> 32 ^ b ^ k, right & 0xFFFFFFFF, left >> 32 ^ d ^ m, left & 0xFFFFFFFF
        k, m = k + 0x9E3779B9 & 0xFFFFFFFF, m + 0xBB67AE85 & 0xFFFFFFFF
    return [a, b, c, d]


def normal(x: int, y: int) -> tuple[float, float]:
    radius = math.sqrt(-2 * math.log((x + 0.5) / 2**32))
    angle = (y + 0.5) / 2**32 * 2 * math.pi
    return radius * math.sin(angle), radius * math.cos(angle)


def by_the_kernel_s_loops(seed: int, draws: list[int], threads: int) -> list[list[float]]:
    """What the grid-stride kernel of PyTorch writes, thread by thread, for draws of so many numbers in turn."""
    made: list[list[float]] = []
    offset = 0
    for total in draws:
        grid = min(threads // 256, -(-total // 256))
        stride = grid * 256
        out = [math.nan] * total
        for thread in range(stride):
            counter = offset // 4
            for place in range(thread, -(-total // (stride * 4)) * stride * 4, stride * 4):
                lows = [counter & 0xFFFFFFFF, counter >> 32, thread, 0]
                x, y, z, w = scalar_philox(lows, [seed & 0xFFFFFFFF, seed >> 32])
                counter += 1
                for turn, number in enumerate((*normal(x, y), *normal(z, w))):
                    if place + turn * stride < total:
                        out[place + turn * stride] = number
        offset += ((total - 1) // (stride * 4) + 1) * 4
        made.append(out)
    return made


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1, 123456789012345])
@pytest.mark.parametrize("threads", [256, 512])
def test_every_draw_is_the_kernel_s(seed: int, threads: int) -> None:
    draws = [5, 256, 700, 2500, 64]  # fewer than a block, one, more than the threads, more than four times as many
    generator = PhiloxGenerator(seed, threads=threads)
    for expected in by_the_kernel_s_loops(seed, draws, threads):
        np.testing.assert_allclose(generator.row((len(expected),), 0, 1), expected, atol=2e-6)


def test_a_card_differs_from_the_web_ui_only_beyond_its_threads() -> None:
    shape, threads = (4, 16, 16), 512
    free, card = (PhiloxGenerator(3, threads=most).row(shape, 0, 1).flatten() for most in (None, threads))
    assert torch.equal(free[:threads], card[:threads])
    assert (free[threads:] != card[threads:]).float().mean() > 0.99
    assert torch.equal(PhiloxGenerator(3, threads=1024).row(shape, 0, 1).flatten(), free)


@pytest.mark.parametrize("threads", [None, 256, 768])
@pytest.mark.parametrize("shape", [(4, 8, 8), (1, 3, 5)])
def test_each_row_of_a_batch_is_drawn_alone(threads: int | None, shape: tuple[int, ...]) -> None:
    whole = PhiloxGenerator(3, threads=threads)
    rows = [PhiloxGenerator(3, threads=threads) for _ in range(5)]
    for _ in range(2):
        batch = whole.row((5, *shape), 0, 1)
        assert torch.equal(torch.stack([row.row(shape, index, 5) for index, row in enumerate(rows)]), batch)
    assert {row.state() for row in rows} == {whole.state()}


def test_the_state_is_cuda_s() -> None:
    generator = PhiloxGenerator(9, threads=256)
    generator.row((4, 32, 32), 0, 1)  # 4,096 numbers by 256 threads: 4 counters
    assert generator.state() == struct.pack("<Qq", 9, 16)
    again = PhiloxGenerator.of_state(generator.state(), threads=256)
    assert torch.equal(again.row((2, 2), 0, 1), generator.row((2, 2), 0, 1))
    assert PhiloxGenerator(-1).state()[:8] == b"\xff" * 8


@pytest.mark.parametrize("state", [b"", b"x" * 15, struct.pack("<Qq", 9, 3), struct.pack("<Qq", 9, -4)])
def test_bytes_that_are_no_state(state: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        PhiloxGenerator.of_state(state)


def test_the_numbers_are_standard_normal() -> None:
    numbers = PhiloxGenerator(1, threads=1024).row((200_000,), 0, 1).double()
    assert abs(numbers.mean()) < 0.01
    assert abs(numbers.std() - 1) < 0.01
    assert abs((numbers**4).mean() - 3) < 0.1
    assert torch.isfinite(numbers).all()


def test_the_extremes_are_finite() -> None:
    most = np.array([0, 2**32 - 1], np.uint32)
    for cosine in (False, True):
        assert np.isfinite(box_muller(most, most, np.full(2, cosine))).all()


def test_what_no_memory_holds_is_not_tried() -> None:
    with pytest.raises(MemoryError):
        PhiloxGenerator(1).row((2**30, 2**30), 0, 1)
