import inspect
from types import GeneratorType

import pytest
import torch

from sfumato.diffusion.samplers import SAMPLERS, SPACINGS, find_sampler, find_sampler_and_spacing
from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.heun import heun
from sfumato.errors import UnknownNameError


def test_the_names_of_the_field_are_the_keys():
    assert list(SAMPLERS) == ["plms", "ddim", "ddpm", "euler", "euler_a", "heun", "lms", "dpmpp_2m"]
    assert all(name == info.name for name, info in SAMPLERS.items())


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
    needs_noise = "noise" in parameters and parameters["noise"].default is inspect.Parameter.empty
    assert needs_noise == info.stochastic
    assert "Source:" in inspect.getdoc(info.function)
    assert info.paper
    options = {"noise": lambda: torch.zeros(1)} if info.stochastic else {}
    assert isinstance(info.function(torch.zeros(1), (1.0, 0.0), **options), GeneratorType)


def test_spacings_are_those_of_the_design():
    assert SPACINGS == ("leading", "trailing", "linspace", "karras", "exponential")


@pytest.mark.parametrize("sampler", [ddim, heun])
def test_a_clip_bounds_what_is_denoised(sampler):
    sampling = sampler(torch.full((2,), 5.0), (2.0, 0.0), clip=0.5)
    next(sampling)
    step = sampling.send(torch.tensor([3.0, -0.2]))
    assert step.denoised.tolist() == pytest.approx([0.5, -0.2])


def test_ddim_asks_for_noise_where_it_needs_it():
    with pytest.raises(AssertionError):
        next(ddim(torch.zeros(1), (1.0, 0.0), eta=1.0))
