import inspect
from functools import partial
from itertools import pairwise
from types import GeneratorType

import pytest
import torch
from sampler_noise import noise_for

from sfumato.diffusion.samplers import SAMPLERS, SCHEDULES, find_sampler, find_sampler_and_spacing, find_spacing
from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.ddim_cfgpp import ddim_cfgpp
from sfumato.diffusion.samplers.dpmpp_singlestep import dpmpp_singlestep
from sfumato.diffusion.samplers.heun import heun
from sfumato.diffusion.samplers.restart import restart_plan
from sfumato.diffusion.samplers.sa_solver import sa_solver
from sfumato.diffusion.samplers.unipc import unipc
from sfumato.diffusion.spacing import karras
from sfumato.errors import UnknownNameError


def test_every_name_people_know_is_there():
    assert all(name == info.name for name, info in SAMPLERS.items())
    web_ui = (
        "DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler, LMS, Heun, DPM2, DPM2 a, "
        "DPM fast, DPM adaptive, Restart, DDIM, DDIM CFG++, PLMS, UniPC, LCM"
    )
    for title in web_ui.split(", "):
        assert find_sampler(title).title == title
        assert find_sampler(title.lower()) is find_sampler(title.upper()) is find_sampler(title)
    diffusers = (
        "DDIM, DDPM, PNDM, LMSDiscrete, EulerDiscrete, EulerAncestralDiscrete, HeunDiscrete, KDPM2Discrete, KDPM2AncestralDiscrete, "
        "DPMSolverMultistep, DPMSolverSinglestep, DPMSolverSDE, DEISMultistep, UniPCMultistep, SASolver, LCM, TCD, IPNDM"
    )
    for name in diffusers.split(", "):
        assert find_sampler(name) is find_sampler(f"{name}Scheduler")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Euler a", "euler_a"),
        ("euler A ", "euler_a"),
        ("EulerAncestralDiscreteScheduler", "euler_a"),
        ("DPM++ 2M", "dpmpp_2m"),
        ("DPMSolverMultistepScheduler", "dpmpp_2m"),
        ("k_dpmpp_2m", "dpmpp_2m"),
        ("PNDM", "plms"),
        ("DPM++ 2M SDE", "dpmpp_2m_sde"),
        ("dpm++ 2m sde heun", "dpmpp_2m_sde_heun"),
        ("k_dpm_2_a", "dpm2_a"),
        ("DPMSolverSDE", "dpmpp_sde"),
        ("uni_pc", "unipc"),
        ("ipndm_v", "lms"),
        ("IPNDMScheduler", "ipndm"),
        ("PLMS", "plms"),
        ("k_lms", "lms"),
        ("Heun", "heun"),
    ],
)
def test_both_traditions_names_are_found(name, expected):
    assert find_sampler(name).name == expected


def test_no_two_samplers_share_a_name():
    names = [n.lower() for info in SAMPLERS.values() for n in {info.name, info.title.lower(), *info.aliases}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("name", "nearest"), [("eular", "euler"), ("dpm++2m", "DPM++ 2M"), ("dimm", "ddim")])
def test_an_unknown_name_is_an_error_with_the_nearest(name, nearest):
    with pytest.raises(UnknownNameError) as caught:
        find_sampler(name)
    assert nearest.lower() in [n.lower() for n in caught.value.nearest]


@pytest.mark.parametrize(
    ("name", "sampler", "spacing"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("Euler Exponential", "euler", "exponential"),
        ("lms karras", "lms", "karras"),
        ("DPM++ 2M", "dpmpp_2m", None),
        ("Euler a", "euler_a", None),
        ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential"),
        ("DPM++ SDE SGM Uniform", "dpmpp_sde", "sgm_uniform"),
        ("Euler a align your STEPS", "euler_a", "align_your_steps"),
        ("DPM++ 2M SDE Heun Automatic", "dpmpp_2m_sde_heun", "automatic"),
        ("UniPC ddim", "unipc", "ddim"),
    ],
)
def test_joined_names_are_parted(name, sampler, spacing):
    info, found = find_sampler_and_spacing(name)
    assert (info.name, found) == (sampler, spacing)


@pytest.mark.parametrize("name", ["Karras", "", "DPM++ 9M Karras", "Euler Carras"])
def test_joined_names_that_are_none_are_errors(name):
    with pytest.raises(UnknownNameError):
        find_sampler_and_spacing(name)


@pytest.mark.parametrize("info", SAMPLERS.values(), ids=SAMPLERS)
def test_what_the_table_says_of_a_sampler_is_so(info):
    parameters = inspect.signature(info.function).parameters
    assert list(parameters)[:2] == ["x", "sigmas"]
    needed = {name for name in ("noise", "path") if _is_needed(parameters.get(name))}
    assert needed == {"start": set(), "steps": {"noise"}, "path": {"path"}}[info.noise]
    assert info.schedule in SCHEDULES
    assert "Source:" in inspect.getdoc(info.function)
    assert info.paper
    options = noise_for(info.name, lambda: torch.zeros(1))
    assert isinstance(info.function(torch.zeros(1), (1.0, 0.0), **options), GeneratorType)


def _is_needed(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default is inspect.Parameter.empty


@pytest.mark.parametrize("name", ["karas", "", "SGMUniform!"])
def test_an_unknown_schedule_is_an_error_with_the_nearest(name):
    with pytest.raises(UnknownNameError, match="schedule"):
        find_spacing(name)


def test_ddim_cfgpp_is_its_paper_s_in_the_paper_s_own_scaling():
    """Algorithm 2 of Chung et al. 2024 on variance-preserving latents, line by line."""
    sigmas = (10.0, 4.0, 1.5, 0.5, 0.0)
    x = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * sigmas[0]

    def estimates(x, sigma):
        return torch.tanh(x) / (1 + sigma), torch.tanh(x - 0.3) / (1 + sigma)

    sampling, scale = ddim_cfgpp(x, sigmas), 7.5
    said = next(sampling)
    for _ in range(4):
        cond, uncond = estimates(said.x, said.sigma)
        said = sampling.send(torch.stack([uncond + scale * (cond - uncond), uncond]))
        try:
            said = sampling.send(said.x)
        except StopIteration as end:
            ours = end.value
    alphas = [1 / (1 + sigma**2) for sigma in sigmas]
    vp, guidance = x * alphas[0] ** 0.5, scale / 12.5
    for sigma, a, a_next in zip(sigmas, alphas, alphas[1:], strict=False):
        cond, uncond = ((vp - a**0.5 * x0) / (1 - a) ** 0.5 for x0 in estimates(vp / a**0.5, sigma))
        epsilon = uncond + guidance * (cond - uncond)
        x0 = (vp - (1 - a) ** 0.5 * epsilon) / a**0.5
        vp = a_next**0.5 * x0 + (1 - a_next) ** 0.5 * uncond
    torch.testing.assert_close(ours, vp)


def test_restart_goes_up_again_from_near_0_1_to_near_2():
    for steps, times in ((19, 0), (20, 1), (35, 1), (36, 2), (50, 2)):
        plan = restart_plan((*karras(14.6, 0.03, steps), 0.0))
        assert len(plan) == steps
        jumps = [(above[1], below[0]) for above, below in pairwise(plan) if below[0] > above[1]]
        assert len(jumps) == times
        assert all(0.05 < low < 0.2 and 1.2 < high < 3.5 for low, high in jumps)
        assert (plan[0][0], plan[-1][1]) == (14.6, 0.0)
        assert all(here > below for here, below in plan)
    assert all(low > 0 for _, low in restart_plan(karras(14.6, 0.03, 41)))


def test_a_step_handed_back_changed_begins_a_new_one_of_dpmpp_2s():
    """Where x is changed in the middle of a step, what was known of its start no longer holds."""
    sigmas, changed = (4.0, 3.0, 2.0, 1.0), torch.tensor([0.7])
    sampling = dpmpp_singlestep(torch.tensor([2.0]), sigmas, orders=[1, 2, 3])
    next(sampling)
    sampling.send(torch.tensor([0.5]))
    sampling.send(changed)
    step = sampling.send(torch.tensor([0.4]))
    fresh = dpmpp_singlestep(changed, (3.0, 2.0), orders=[1])
    next(fresh)
    assert torch.equal(step.x, fresh.send(torch.tensor([0.4])).x)


@pytest.mark.parametrize("sampler", [unipc, partial(sa_solver, noise=lambda: torch.zeros(1))])
def test_a_correction_is_added_to_the_x_that_is_handed_back(sampler):
    def second_step(change: float) -> torch.Tensor:
        sampling = sampler(torch.tensor([2.0]), (4.0, 3.0, 2.0), lower_order_end=False)
        next(sampling)
        offered = sampling.send(torch.tensor([0.5]))
        sampling.send(offered.x + change)
        return sampling.send(torch.tensor([0.4])).x

    assert float(second_step(0.3) - second_step(0.0)) == pytest.approx(
        0.3 * (2 / 3) ** (1 if sampler is unipc else 2), rel=1e-4
    )


@pytest.mark.parametrize(
    ("sampler", "options"),
    [(ddim, {"bound": lambda x: x.clamp(-0.5, 0.5)}), (heun, {"clip": 0.5})],
    ids=["ddim", "heun"],
)
def test_a_bound_holds_what_is_denoised(sampler, options):
    sampling = sampler(torch.full((2,), 5.0), (2.0, 0.0), **options)
    next(sampling)
    step = sampling.send(torch.tensor([3.0, -0.2]))
    assert step.denoised.tolist() == pytest.approx([0.5, -0.2])


def test_ddim_asks_for_noise_where_it_needs_it():
    with pytest.raises(AssertionError):
        next(ddim(torch.zeros(1), (1.0, 0.0), eta=1.0))
