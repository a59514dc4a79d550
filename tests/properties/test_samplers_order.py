"""Orders of convergence, measured where the solution is known.

For data x0 ~ N(0, sd²) the best denoiser is x·sd²/(sigma² + sd²), and the probability-flow ODE keeps x/sqrt(sigma² + sd²) constant.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.diffusion.conversation import Sampling, run
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.diffusion.samplers.churn import Churn
from sfumato.diffusion.samplers.dpmpp_singlestep import singlestep_orders
from sfumato.diffusion.samplers.pndm import pndm
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


def order_of(errors: Sequence[float], ratio: float = 2.0) -> float:
    return math.log(errors[-2] / errors[-1]) / math.log(ratio)


def measured_order(name: str, steps: Sequence[int], space: Spacing = karras, **options: Any) -> float:
    runs = [SAMPLERS[name].function(at(TOP), space(TOP, BOTTOM, count + 1), **options) for count in steps]
    return order_of([error(sampling, BOTTOM) for sampling in runs], steps[-1] / steps[-2])


def named(value: object) -> str:
    """A test's name for what it is given, the same in every process: no function's address is in it."""
    if isinstance(value, dict):
        value = {key: "function" if callable(option) else option for key, option in value.items()}
    return str(value)


def no_noise(*_: float) -> Tensor:
    return torch.zeros(())


# Without noise a stochastic sampler solves the ODE. Restart adds it whatever is said, DDPM has no other form, and LCM solves none.
WITHOUT_NOISE: dict[str, dict[str, Any]] = {
    **{name: {"eta": 0.0, "noise": no_noise} for name in ("euler_a", "dpm2_a", "dpmpp_2s_a")},
    **{name: {"eta": 0.0, "path": no_noise} for name in SAMPLERS if SAMPLERS[name].noise == "path"},
    "sa_solver": {"tau": lambda _: 0.0, "noise": no_noise},
}
# These reach their order with a history, or with the last steps as the others.
COLD = ("lms", "unipc", "deis")
ELSEWHERE = ("ddpm", "restart", "lcm", "dpm_adaptive")


@pytest.mark.parametrize("space", [karras, exponential])
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in (*COLD, *ELSEWHERE)])
def test_error_falls_with_the_documented_order(name, space):
    steps = (128, 257)  # not a multiple of 3 or one more: DPM fast ends in lower orders there
    measured = measured_order(name, steps, space, **WITHOUT_NOISE.get(name, {}))
    assert measured == pytest.approx(SAMPLERS[name].order, abs=0.22 if name in ("dpmpp_2s", "sa_solver") else 0.08)


def graded(steps: int) -> tuple[float, ...]:
    """Levels even in log sigma but for the first steps, which grow from h² to h: first-order ones then don't matter."""
    length = math.log(TOP / BOTTOM)
    h = length / steps
    gone, size = [0.0], h * h
    while gone[-1] + size < length - size / 2:
        gone.append(gone[-1] + size)
        size = min(h, size * 2)
    return (*(TOP * math.exp(-place) for place in gone), BOTTOM)


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("deis", {}, 3),
        ("deis", {"order": 2}, 2),
        ("deis", {"order": 4}, 4),
        ("unipc", {"lower_order_end": False}, 3),
        ("unipc", {"lower_order_end": False, "variant": "bh1"}, 3),
        ("unipc", {"lower_order_end": False, "predicts": "noise"}, 3),
        ("unipc", {"lower_order_end": False, "order": 1}, 2),
        ("unipc", {"lower_order_end": False, "order": 3}, 4),
        (
            "sa_solver",
            {"lower_order_end": False, "predictor_order": 2, "corrector_order": 3, **WITHOUT_NOISE["sa_solver"]},
            3,
        ),
    ],
    ids=named,
)
def test_multistep_samplers_reach_their_order_with_a_history(name, options, order):
    errors = [error(SAMPLERS[name].function(at(TOP), graded(steps), **options), BOTTOM) for steps in (128, 256)]
    assert order_of(errors) == pytest.approx(order, abs=0.1)
    if not {"order", "predictor_order"} & options.keys():
        assert order == SAMPLERS[name].order


def test_unipc_from_a_cold_start_or_with_a_lower_end_is_of_second_order():
    assert measured_order("unipc", (128, 256)) == pytest.approx(2, abs=0.1)


def test_dpm_adaptive_s_error_falls_with_the_third_power_of_its_cost():
    def run_to(tolerance: float) -> tuple[float, int]:
        asked = 0

        def counting(x: Tensor, sigma: float) -> Tensor:
            nonlocal asked
            asked += 1
            return denoise(x, sigma)

        sampling = SAMPLERS["dpm_adaptive"].function(at(TOP), (TOP, BOTTOM), rtol=tolerance, atol=tolerance)
        return float((run(sampling, counting) - at(BOTTOM)).abs().max()), asked

    (loose, few), (tight, many) = run_to(1e-4), run_to(1e-7)
    assert tight < 1e-7
    assert math.log(loose / tight) / math.log(many / few) > SAMPLERS["dpm_adaptive"].order


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
        ("dpmpp_2m", {"order": 3}, 2),  # see its docstring
        ("dpm_2m", {"order": 1}, 1),
        ("dpm_2m", {"solver": "heun"}, 2),
        ("dpm_2m", {"order": 3}, 2),
        ("ipndm", {"order": 1}, 1),
        ("ipndm", {"order": 2}, 2),
        ("sa_solver", {"predictor_order": 1, "corrector_order": 1, **WITHOUT_NOISE["sa_solver"]}, 1),
        *(("dpmpp_2s", {"orders": (1,) * 256, "predicts": predicts}, 1) for predicts in ("data", "noise")),
    ],
    ids=named,
)
def test_other_forms_of_a_sampler(name, options, order):
    errors = []
    for steps in (128, 256):
        cut = {"orders": options["orders"][:steps]} if "orders" in options else {}
        sampling = SAMPLERS[name].function(at(TOP), karras(TOP, BOTTOM, steps + 1), **{**options, **cut})
        errors.append(error(sampling, BOTTOM))
    assert order_of(errors) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("predicts", ["data", "noise"])
@pytest.mark.parametrize("solver", ["midpoint", "heun"])
@pytest.mark.parametrize("order", [2, 3])
def test_single_steps_on_given_levels_reach_their_order(order, solver, predicts):
    errors = []
    for steps in (126, 252):
        orders = singlestep_orders(steps, order, first_order_final=False)
        options = {"orders": orders, "solver": solver, "predicts": predicts}
        errors.append(error(SAMPLERS["dpmpp_2s"].function(at(TOP), karras(TOP, BOTTOM, steps + 1), **options), BOTTOM))
    assert order_of(errors) == pytest.approx(order, abs=0.05)


def test_dpmpp_of_first_order_is_euler():
    sigmas = karras(TOP, BOTTOM, 12)
    ours = run(SAMPLERS["dpmpp_2m"].function(at(TOP), sigmas, order=1), denoise)
    torch.testing.assert_close(ours, run(SAMPLERS["euler"].function(at(TOP), sigmas), denoise))


class Basis:
    """Noise as unit vectors: the denoiser is linear, so x is a sum of them, and its variance that of its coefficients, exactly."""

    def __init__(self, size: int) -> None:
        self.size, self.drawn = size, 1
        self.last: tuple[float, float, Tensor] | None = None

    def start(self) -> Tensor:
        return self.unit(0) * math.sqrt(TOP**2 + SD**2)

    def unit(self, place: int) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(place), self.size).to(torch.float64)

    def draw(self) -> Tensor:
        self.drawn += 1
        return self.unit(self.drawn - 1)

    def path(self, sigma: float, sigma_next: float) -> Tensor:
        """Noise of a Brownian path, of which the way to an end goes by the middle that was asked for before."""
        begun = self.last is not None and self.last[0] == sigma and sigma_next < self.last[1]
        here, gone = (self.last[1], self.last[2]) if begun and self.last else (sigma, torch.zeros(self.size))
        increment = gone + math.sqrt(here - sigma_next) * self.draw()
        self.last = sigma, sigma_next, increment
        return increment / math.sqrt(sigma - sigma_next)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name, info in SAMPLERS.items() if info.stochastic and name != "lcm"),
        ("ddim", {"eta": 1.0}),
        ("ddim", {"eta": 0.5}),
        ("ddim_cfgpp", {"eta": 1.0}),
        ("dpm_fast", {"eta": 0.5}),
        ("euler_a", {"eta": 0.4}),
        ("dpmpp_2m_sde", {"eta": 0.4}),
        *((name, {"churn": Churn(s_churn=4.0)}) for name in ("euler", "heun", "dpm2")),
    ],
    ids=named,
)
def test_with_noise_the_error_of_the_variance_falls_with_the_same_order(name, options):
    errors = []
    for steps in (128, 257):
        basis = Basis(4 * steps)
        noise = {"path": basis.path} if SAMPLERS[name].noise == "path" else {"noise": basis.draw}
        sampling = SAMPLERS[name].function(basis.start(), karras(TOP, BOTTOM, steps + 1), **noise, **options)
        errors.append(abs(float((run(sampling, denoise) ** 2).sum()) / (BOTTOM**2 + SD**2) - 1))
        assert basis.drawn > 1
    assert order_of(errors, 257 / 128) == pytest.approx(SAMPLERS[name].order, abs=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name, info in SAMPLERS.items() if info.stochastic and name != "lcm"),
        ("ddim", {"eta": 1.0}),
        ("ddim", {"eta": 0.5}),
    ],
    ids=named,
)
def test_a_step_to_0_returns_the_mean_of_the_data(name, options):
    basis = Basis(2000)
    noise = {"path": basis.path} if SAMPLERS[name].noise == "path" else {"noise": basis.draw}
    sigmas = (*karras(TOP, BOTTOM, 200), 0.0)
    x = run(SAMPLERS[name].function(basis.start(), sigmas, **noise, **options), denoise)
    # At the last positive level the data still have that level's noise on them; a step to 0 returns their mean given x.
    assert float((x**2).sum()) == pytest.approx(SD**4 / (BOTTOM**2 + SD**2), rel=0.03)


def test_lcm_forgets_what_it_was():
    """Each step begins anew from the network's estimate: with a denoiser that knows the mean alone, little is left of the data's variance."""
    basis = Basis(100)
    x = run(SAMPLERS["lcm"].function(basis.start(), (*karras(TOP, BOTTOM, 20), 0.0), noise=basis.draw), denoise)
    assert float(x[0].abs()) < 1e-4
    assert float((x**2).sum()) < 0.9 * SD**2


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


@pytest.mark.parametrize("name", ["dpmpp_2s_a", "dpmpp_sde"])
def test_without_noise_both_are_dpmpp_2s_in_single_steps(name):
    sigmas = karras(TOP, BOTTOM, 9)
    ours = run(SAMPLERS[name].function(at(TOP), sigmas, **WITHOUT_NOISE[name]), denoise)
    halved = [level for here, below in pairwise(sigmas) for level in (here, math.sqrt(here * below))]
    orders = [1, 2] * 8
    single = run(SAMPLERS["dpmpp_2s"].function(at(TOP), (*halved, BOTTOM), orders=orders), denoise)
    torch.testing.assert_close(ours, single, rtol=1e-6, atol=1e-6)


def test_dpmpp_2m_sde_without_noise_is_dpmpp_2m():
    sigmas = (*karras(TOP, BOTTOM, 9), 0.0)
    ours = run(SAMPLERS["dpmpp_2m_sde"].function(at(TOP), sigmas, eta=0.0, path=no_noise), denoise)
    torch.testing.assert_close(ours, run(SAMPLERS["dpmpp_2m"].function(at(TOP), sigmas), denoise))


def test_dpm_2m_with_the_whole_slope_is_deis_of_second_order():
    sigmas = karras(TOP, BOTTOM, 9)
    ours = run(SAMPLERS["dpm_2m"].function(at(TOP), sigmas, solver="heun"), denoise)
    torch.testing.assert_close(ours, run(SAMPLERS["deis"].function(at(TOP), sigmas, order=2), denoise))


def test_tcd_without_noise_and_ddim_cfgpp_without_guidance_are_ddim():
    sigmas = (*karras(TOP, BOTTOM, 9), 0.0)
    ddim = run(SAMPLERS["ddim"].function(at(TOP), sigmas), denoise)
    torch.testing.assert_close(run(SAMPLERS["tcd"].function(at(TOP), sigmas), denoise), ddim)
    torch.testing.assert_close(run(SAMPLERS["ddim_cfgpp"].function(at(TOP), sigmas), denoise), ddim)


def test_restart_below_20_steps_is_heun():
    sigmas = (*karras(TOP, BOTTOM, 18), 0.0)
    ours = run(SAMPLERS["restart"].function(at(TOP), sigmas, noise=no_noise), denoise)
    assert torch.equal(ours, run(SAMPLERS["heun"].function(at(TOP), sigmas), denoise))


def test_pndm_with_its_runge_kutta_start_is_of_second_order_where_steps_are_not_even():
    errors = []
    for steps in (128, 256):
        sigmas = karras(TOP, BOTTOM, steps + 1)
        middles = [(middle, middle) for middle in (math.sqrt(high * low) for high, low in pairwise(sigmas[:4]))]
        errors.append(error(pndm(at(TOP), sigmas, middles=middles), BOTTOM))
    assert order_of(errors) == pytest.approx(2, abs=0.1)


def test_every_sampler_s_order_is_measured_but_of_one_that_solves_nothing():
    """Those that are left out above are measured by their variance, as all stochastic ones are, or by their cost."""
    assert {name for name in ELSEWHERE if not SAMPLERS[name].stochastic} == {"dpm_adaptive"}
    assert {name for name, info in SAMPLERS.items() if info.order is None} == {"lcm"}
