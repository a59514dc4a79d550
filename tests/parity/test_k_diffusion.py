"""Whole trajectories against k-diffusion, with the same noise, on a fixed smooth nonlinear denoiser.

k-diffusion takes the levels as a tensor and computes in its precision. In float32 differences of squares lose digits where steps
are large, so runs of few steps are compared in float64, and in float32 those of a usual length.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from k_diffusion_sampling import external
from k_diffusion_sampling import sampling as reference
from torch import Tensor

from sfumato.diffusion.brownian import BrownianPath
from sfumato.diffusion.conversation import Query, Sampling, Step
from sfumato.diffusion.noise import NoiseSource
from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.diffusion.samplers.churn import Churn
from sfumato.diffusion.samplers.restart import restart_plan
from sfumato.diffusion.schedules import Ends, levels_of
from sfumato.schedulers import KDiffusionScheduler

SHAPE = (4, 6, 10)
TOP, BOTTOM = 14.6146, 0.0292
STEPS = (1, 2, 3, 4, 7, 20)
RUNS = (*((steps, torch.float64) for steps in STEPS), (20, torch.float32))
TOLERANCE = 1e-4
SPACINGS = {
    "karras": reference.get_sigmas_karras,
    "exponential": reference.get_sigmas_exponential,
}


def denoise(x: Tensor, sigma: float) -> Tensor:
    # Never falls as x rises: the ODE then contracts towards the data, as with a real network, and doesn't blow rounding up.
    return (0.7 * x + 0.4 * torch.sin(x + sigma)) / (1 + 0.5 * sigma**2)


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return TOP * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)


def trajectory(sampling: Sampling) -> tuple[Tensor, list[Tensor], int]:
    """The end, x at each step's end, and how often it asked."""
    steps: list[Tensor] = []
    asked, answer = 0, None
    while True:
        try:
            said = next(sampling) if answer is None else sampling.send(answer)
        except StopIteration as end:
            return end.value, steps, asked
        match said:
            case Query(x, sigma):
                asked += 1
                answer = denoise(x, sigma)
            case Step(x):
                steps.append(x)
                answer = x


class Model:
    """The denoiser as k-diffusion calls it, on a batch of one."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.asked += 1
        return denoise(x, float(sigma[0]))


def theirs(
    sample: Callable[..., Tensor], *arguments: Any, x: Tensor | None = None, **options: Any
) -> tuple[Tensor, list[Tensor], int]:
    """The same of one of k-diffusion's; its callback is told x at the beginning of each step."""
    model, begun = Model(), []
    x = (start() if x is None else x)[None]
    if "noise_sampler" in inspect.signature(sample).parameters:
        draw = noise()
        options = {"noise_sampler": lambda *_: draw()[None], **options}
    else:
        torch.manual_seed(5)  # for torch.randn_like
    end = sample(model, x, *arguments, disable=True, callback=lambda info: begun.append(info["x"][0]), **options)
    return end[0], [*begun[1:], end[0]], model.asked


def assert_same(ours: tuple[Tensor, list[Tensor], int], expected: tuple[Tensor, list[Tensor], int]) -> None:
    assert ours[2] == expected[2]
    assert len(ours[1]) == len(expected[1])
    for a, b in zip((*ours[1], ours[0]), (*expected[1], expected[0]), strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < TOLERANCE


def levels(spacing: str, steps: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, tuple[float, ...]]:
    sigmas = SPACINGS[spacing](steps, BOTTOM, TOP)
    return sigmas.to(dtype), tuple(float(sigma) for sigma in sigmas)


def noise() -> Callable[[], Tensor]:
    return NoiseSource(5, SHAPE).draw


def path(sigmas: tuple[float, ...], seed: int) -> BrownianPath:
    def draw(seed: int) -> Tensor:
        return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))

    return BrownianPath(seed, min(sigma for sigma in sigmas if sigma > 0), max(sigmas), draw)


ETAS = [{}, {"eta": 0.4}, {"eta": 0.0}, {"eta": 1.0, "s_noise": 1.05}]
DETERMINISTIC = {
    "euler": "sample_euler",
    "heun": "sample_heun",
    "dpm2": "sample_dpm_2",
    "lms": "sample_lms",
    "dpmpp_2m": "sample_dpmpp_2m",
}
ANCESTRAL = {
    "euler_a": "sample_euler_ancestral",
    "dpm2_a": "sample_dpm_2_ancestral",
    "dpmpp_2s_a": "sample_dpmpp_2s_ancestral",
}
SDE = {
    "dpmpp_sde": ("sample_dpmpp_sde", {}),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", {}),
    "dpmpp_2m_sde_heun": ("sample_dpmpp_2m_sde", {"solver_type": "heun"}),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", {}),
}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_agree(name: str, spacing: str) -> None:
    for steps, dtype in RUNS:
        sigmas, numbers = levels(spacing, steps, dtype)
        expected = theirs(getattr(reference, DETERMINISTIC[name]), sigmas, x=start(dtype))
        assert_same(trajectory(SAMPLERS[name].function(start(dtype), numbers)), expected)


@pytest.mark.parametrize(
    "churn",
    [
        {"s_churn": 3.0},
        {"s_churn": 100.0, "s_noise": 1.1},
        {"s_churn": 5.0, "s_tmin": 0.3, "s_tmax": 9.0, "s_noise": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["euler", "heun", "dpm2"])
def test_churn_agrees(name: str, churn: dict[str, float]) -> None:
    for steps in STEPS:  # its noise is of the precision of x
        sigmas, numbers = levels("karras", steps, torch.float32)
        expected = theirs(getattr(reference, DETERMINISTIC[name]), sigmas, x=start(torch.float32), **churn)
        got = trajectory(SAMPLERS[name].function(start(torch.float32), numbers, noise=noise(), churn=Churn(**churn)))
        assert got[2] == expected[2]
        assert float((got[0] - expected[0]).abs().max() / expected[0].abs().max()) < TOLERANCE


@pytest.mark.parametrize("options", ETAS, ids=str)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", ANCESTRAL)
def test_ancestral_samplers_agree(name: str, spacing: str, options: dict[str, float]) -> None:
    for steps, dtype in RUNS:
        sigmas, numbers = levels(spacing, steps, dtype)
        expected = theirs(getattr(reference, ANCESTRAL[name]), sigmas, x=start(dtype), **options)
        assert_same(trajectory(SAMPLERS[name].function(start(dtype), numbers, noise=noise(), **options)), expected)


@pytest.mark.parametrize("options", ETAS, ids=str)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SDE)
def test_samplers_of_the_sde_agree_on_the_same_noise(name: str, spacing: str, options: dict[str, float]) -> None:
    sample, more = SDE[name]
    for steps in STEPS[1:]:  # at one step k-diffusion fails
        sigmas, numbers = levels(spacing, steps)
        expected = theirs(getattr(reference, sample), sigmas, **more, **options)
        draw = functools.partial(lambda draw, *_: draw(), noise())
        assert_same(trajectory(SAMPLERS[name].function(start(), numbers, path=draw, **options)), expected)


@pytest.mark.filterwarnings("ignore:Should have")  # of levels beyond the path's ends by a rounding
@pytest.mark.parametrize("options", ETAS, ids=str)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SDE)
def test_samplers_of_the_sde_agree_on_the_same_path(name: str, spacing: str, options: dict[str, float]) -> None:
    sample, more = SDE[name]
    for seed, steps in enumerate((7, 20, 31), start=2**40):
        sigmas, numbers = levels(spacing, steps, torch.float32)
        x = start(torch.float32)
        tree = reference.BrownianTreeNoiseSampler(x[None], sigmas[-2], sigmas[0], seed=[seed])
        expected = theirs(getattr(reference, sample), sigmas, x=x, noise_sampler=tree, **more, **options)
        assert_same(trajectory(SAMPLERS[name].function(x, numbers, path=path(numbers, seed), **options)), expected)


@pytest.mark.parametrize("options", [{}, {"eta": 0.6}, {"eta": 1.0, "s_noise": 0.9}], ids=str)
@pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 5, 6, 20, 31])
def test_dpm_fast_agrees(evaluations: int, options: dict[str, float]) -> None:
    expected = theirs(reference.sample_dpm_fast, BOTTOM, TOP, evaluations, **options)
    numbers = (*levels("exponential", evaluations)[1][:-1], BOTTOM)
    got = trajectory(SAMPLERS["dpm_fast"].function(start(), (TOP, *numbers[1:]), noise=noise(), **options))
    assert_same(got, expected)
    assert got[2] == evaluations
    assert len(got[1]) == SAMPLERS["dpm_fast"].steps(numbers)


@pytest.mark.parametrize("first_step", [0.05, 4.0])  # the second is refused
@pytest.mark.parametrize(
    "options", [{}, {"rtol": 0.005, "atol": 0.001}, {"eta": 0.6}, {"eta": 1.0, "s_noise": 0.9}], ids=str
)
def test_dpm_adaptive_agrees(options: dict[str, float], first_step: float) -> None:
    draw = noise()
    fixed = [draw() for _ in range(3)]
    one, other = itertools.cycle(fixed), itertools.cycle(fixed)
    sample = functools.partial(reference.sample_dpm_adaptive, h_init=first_step)
    end, _, asked = theirs(sample, BOTTOM, TOP, noise_sampler=lambda *_: next(one)[None], **options)
    ours, steps, ours_asked = trajectory(
        SAMPLERS["dpm_adaptive"].function(
            start(), (TOP, BOTTOM), noise=lambda: next(other), first_step=first_step, **options
        )
    )
    assert float((ours - end).abs().max() / end.abs().max()) < TOLERANCE
    refused = (asked - 3 * len(steps)) // 3
    assert ours_asked == asked - refused  # a step tried again starts from an answer that is there
    assert refused > 0 or first_step < 1


@pytest.mark.filterwarnings("ignore:Should have")
@pytest.mark.parametrize("seed", [0, 3, 2**32 + 1, 2**63 - 1])
def test_the_path_is_theirs_bit_for_bit(seed: int) -> None:
    sigmas, numbers = levels("karras", 30, torch.float32)
    theirs = reference.BrownianTreeNoiseSampler(torch.zeros(1, *SHAPE), sigmas[-2], sigmas[0], seed=[seed])
    mine = path(numbers, seed)
    order = torch.randperm(29, generator=torch.Generator().manual_seed(1)).tolist()
    for step in order:  # in any order: nothing is stored
        assert torch.equal(mine(numbers[step], numbers[step + 1]), theirs(sigmas[step], sigmas[step + 1])[0])
    assert torch.equal(mine(numbers[9], numbers[2]), theirs(sigmas[9], sigmas[2])[0])


SCHEDULE = NoiseSchedule(in_float64=True)
DISCRETE = external.DiscreteSchedule(SCHEDULE.sigmas.to(torch.float32), quantize=False)
LOW, HIGH = float(DISCRETE.sigma_min), float(DISCRETE.sigma_max)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 33])
def test_schedules_are_theirs_to_the_last_bit(steps: int) -> None:
    ends = Ends(schedule=SCHEDULE, sigma_min=LOW, sigma_max=HIGH)
    bent = Ends(schedule=SCHEDULE, sigma_min=0.1, sigma_max=9.0, rho=3.0)

    def same(name: str, theirs: Tensor, ends: Ends = ends) -> None:
        assert torch.equal(torch.tensor(levels_of(name, ends, steps)), theirs), name

    same("karras", reference.get_sigmas_karras(steps, LOW, HIGH))
    same("exponential", reference.get_sigmas_exponential(steps, LOW, HIGH))
    same("polyexponential", reference.get_sigmas_polyexponential(steps, LOW, HIGH))
    same("uniform", DISCRETE.get_sigmas(steps))
    same("karras", reference.get_sigmas_karras(steps, 0.1, 9.0, rho=3.0), bent)
    same("polyexponential", reference.get_sigmas_polyexponential(steps, 0.1, 9.0, rho=3.0), bent)


def test_sigmas_and_timesteps_are_theirs() -> None:
    scheduler = KDiffusionScheduler(schedule="karras")
    levels = scheduler.levels(30)
    theirs = DISCRETE.sigma_to_t(torch.tensor(levels.sigmas[:-1]))
    assert levels.timesteps == pytest.approx(theirs.tolist(), abs=2e-3)
    assert SCHEDULE.sigma(0) == pytest.approx(LOW, rel=1e-7)
    assert SCHEDULE.sigma(999) == pytest.approx(HIGH, rel=1e-7)


@pytest.mark.parametrize("steps", [20, 36, 50])
def test_restart_is_their_heun_between_its_restarts(steps: int) -> None:
    """Each way down of the plan by sample_heun, and from its end up to the next one's start by fresh noise."""
    _, numbers = levels("karras", steps)
    plan = restart_plan(numbers)
    ways: list[list[float]] = [[plan[0][0]]]
    for here, below in plan:
        if here != ways[-1][-1]:
            ways.append([here])
        ways[-1].append(below)
    assert len(ways) == (2 if steps < 36 else 3)
    x, draw = start(), noise()
    for number, way in enumerate(ways):
        if number:
            x = x + (way[0] ** 2 - ways[number - 1][-1] ** 2) ** 0.5 * draw()
        x, _, _ = theirs(reference.sample_heun, torch.tensor(way, dtype=torch.float64), x=x)
    ours, _, _ = trajectory(SAMPLERS["restart"].function(start(), numbers, noise=noise()))
    assert float((ours - x).abs().max() / x.abs().max()) < TOLERANCE
