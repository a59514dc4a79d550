"""Orders of convergence, measured where the solution is known.

For data x0 ~ N(0, sd²) the best denoiser is x·sd²/(sigma² + sd²), and the probability-flow ODE keeps x/sqrt(sigma² + sd²) constant.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.diffusion.conversation import Sampling, run
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.diffusion.spacing import exponential, karras

Spacing = Callable[[float, float, int], tuple[float, ...]]

SD = 0.8
TOP, BOTTOM = 5.0, 0.2
DATA = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)  # x in units of its own standard deviation


def denoise(x: Tensor, sigma: float) -> Tensor:
    return x * SD**2 / (sigma**2 + SD**2)


def at(sigma: float) -> Tensor:
    return DATA * math.sqrt(sigma**2 + SD**2)


def error(sampling: Sampling, end: float) -> float:
    return float((run(sampling, denoise) - at(end)).abs().max())


def order_of(errors: Sequence[float]) -> float:
    return math.log2(errors[-2] / errors[-1])


def measured_order(name: str, steps: Sequence[int], space: Spacing = karras, **options: Any) -> float:
    runs = [SAMPLERS[name].function(at(TOP), space(TOP, BOTTOM, count + 1), **options) for count in steps]
    return order_of([error(sampling, BOTTOM) for sampling in runs])


@pytest.mark.parametrize("space", [karras, exponential])
@pytest.mark.parametrize("name", [name for name, info in SAMPLERS.items() if not info.stochastic and name != "lms"])
def test_error_falls_with_the_documented_order(name, space):
    assert measured_order(name, (128, 256), space) == pytest.approx(SAMPLERS[name].order, abs=0.08)


def test_lms_is_of_fourth_order_once_it_has_its_history():
    # It has to start with a first-order step. Let the first steps grow from h² to h, so that their error is h⁴ too.
    errors = []
    for steps in (256, 512):
        h = (TOP - BOTTOM) / steps
        sigmas, size = [TOP], h * h
        while sigmas[-1] - size > BOTTOM + size / 2:
            sigmas.append(sigmas[-1] - size)
            size = min(h, size * 2)
        errors.append(error(SAMPLERS["lms"].function(at(TOP), (*sigmas, BOTTOM)), BOTTOM))
    assert order_of(errors) == pytest.approx(SAMPLERS["lms"].order, abs=0.2)


def test_lms_from_a_cold_start_is_limited_by_its_first_step():
    assert measured_order("lms", (512, 1024)) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("lms", {"order": 1}, 1),
        ("lms", {"order": 2}, 2),
        ("plms", {"mixes": "v_prediction"}, 1),
        ("dpmpp_2m", {"order": 1}, 1),
        ("dpmpp_2m", {"solver": "heun"}, 2),
    ],
)
def test_other_forms_of_a_sampler(name, options, order):
    assert measured_order(name, (128, 256), **options) == pytest.approx(order, abs=0.1)


def test_dpmpp_of_first_order_is_euler():
    sigmas = karras(TOP, BOTTOM, 12)
    ours = run(SAMPLERS["dpmpp_2m"].function(at(TOP), sigmas, order=1), denoise)
    torch.testing.assert_close(ours, run(SAMPLERS["euler"].function(at(TOP), sigmas), denoise))


@pytest.mark.parametrize(
    ("name", "options"), [("ddpm", {}), ("euler_a", {}), ("ddim", {"eta": 1.0}), ("ddim", {"eta": 0.5})]
)
@pytest.mark.parametrize("end", [BOTTOM, 0.0])
def test_stochastic_samplers_end_with_the_variance_of_the_data(name, options, end):
    generator = torch.Generator().manual_seed(1)
    count = 200_000
    start = torch.randn(count, generator=generator) * math.sqrt(TOP**2 + SD**2)
    sigmas = (*karras(TOP, BOTTOM, 200), *([end] if end < BOTTOM else []))
    sampling = SAMPLERS[name].function(start, sigmas, noise=lambda: torch.randn(count, generator=generator), **options)
    x = run(sampling, denoise)
    # At the last positive level the data still have that level's noise on them; a step to 0 returns their mean given x.
    expected = BOTTOM**2 + SD**2 if end else SD**4 / (BOTTOM**2 + SD**2)
    assert float(x.var()) == pytest.approx(expected, rel=0.03)


def test_ddpm_euler_ancestral_and_ddim_at_eta_1_are_one_method():
    sigmas = (*karras(TOP, BOTTOM, 9), 0.0)

    def end(name: str, **options: float) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        noise = lambda: torch.randn(3, generator=generator, dtype=torch.float64)  # noqa: E731
        return run(SAMPLERS[name].function(at(TOP), sigmas, noise=noise, **options), denoise)

    torch.testing.assert_close(end("euler_a"), end("ddpm"))
    torch.testing.assert_close(end("ddim", eta=1.0), end("ddpm"))


def test_ddim_without_noise_is_euler():
    sigmas = (*karras(TOP, BOTTOM, 9), 0.0)
    ddim = run(SAMPLERS["ddim"].function(at(TOP), sigmas), denoise)
    torch.testing.assert_close(ddim, run(SAMPLERS["euler"].function(at(TOP), sigmas), denoise))
