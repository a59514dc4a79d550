"""Samplers with needs of their own, through the pipeline: replay, progress, callbacks, pictures of one call."""

from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato
from sfumato.diffusion.samplers import SAMPLERS
from sfumato.schedulers import scheduler_for

# With noise of a path, without the prompt, with levels, steps or restarts of their own, and with a corrector.
OWN_NEEDS = ("dpmpp_2m_sde", "dpmpp_sde", "ddim_cfgpp", "dpm_fast", "dpm_adaptive", "restart", "unipc", "tcd")


class Bar:
    """A progress bar that remembers."""

    def __init__(self, total: float) -> None:
        self.total, self.done = total, 0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        self.done += n


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def with_sampler(pipe: Any, name: str) -> list[Bar]:
    pipe.scheduler = scheduler_for(base=pipe.scheduler, sampler=name)
    bars: list[Bar] = []

    def progress_bar(*, total: float) -> Bar:
        bars.append(Bar(total))
        return bars[-1]

    pipe.progress_bar = progress_bar
    return bars


@pytest.mark.parametrize("name", OWN_NEEDS)
def test_pictures_of_one_call_are_those_made_alone_and_replay_makes_them_again(pipe: Any, name: str) -> None:
    steps = 20 if name == "restart" else 3
    bars = with_sampler(pipe, name)
    both = pipe(["a fox", "a hat"], num_inference_steps=steps, seeds=[1, 2]).images
    alone = pipe("a hat", num_inference_steps=steps, seeds=[2]).images[0]
    assert both[1].tobytes() == alone.tobytes()
    assert both[1].recipe.sampler == name
    result = pipe.replay(alone.recipe)
    assert (result.identical, result.differences) == (True, [])
    said = SAMPLERS[name].steps(pipe.scheduler.levels(steps).sigmas)
    for bar in bars:
        assert bar.total == (float("inf") if said is None else said)
        assert bar.done == bar.total or (said is None and bar.done > 1)


def test_an_x_that_a_callback_returns_is_gone_on_from_where_steps_differ(pipe: Any) -> None:
    """DPM adaptive's images finish their steps at times of their own: each is shown, and changed, by itself."""
    with_sampler(pipe, "dpm_adaptive")
    sizes: list[int] = []
    timesteps: list[float] = []

    def look(_pipe: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        sizes.append(tensors["latents"].shape[0])
        timesteps.append(float(timestep))
        return {"latents": torch.zeros_like(tensors["latents"])}

    options = {"num_inference_steps": 3, "seeds": [1, 2], "output_type": "latent"}
    changed = pipe(["a fox", "a hat"], callback_on_step_end=look, **options).images
    assert set(sizes) == {1}
    assert float(changed.abs().max()) == 0
    assert timesteps[0] == pytest.approx(999)
    assert min(timesteps) >= 0


def test_what_a_sampler_takes_no_heed_of_is_noted(pipe: Any) -> None:
    options = {"num_inference_steps": 3, "seeds": [1], "output_type": "latent"}
    with_sampler(pipe, "dpm_adaptive")
    (note,) = pipe("a fox", **options).notes
    assert "DPM adaptive" in note
    assert "number of steps" in note
    pipe.scheduler = sfumato.KDiffusionScheduler.from_config(pipe.scheduler, sampler_name="dpm_fast", schedule="karras")
    (note,) = pipe("a fox", **options).notes
    assert "the schedule karras has no effect" in note
    with_sampler(pipe, "heun")
    assert pipe("a fox", **options).notes == []


def test_noise_of_the_sde_is_of_each_image_s_seed_and_row(pipe: Any) -> None:
    with_sampler(pipe, "dpmpp_2m_sde")
    options = {"num_inference_steps": 3, "output_type": "latent"}
    generator = torch.Generator().manual_seed(5)
    rows = pipe("a fox", num_images_per_prompt=2, generator=generator, **options).images
    assert not torch.equal(rows[0], rows[1])
    again = pipe("a fox", num_images_per_prompt=2, generator=torch.Generator().manual_seed(5), **options).images
    assert torch.equal(rows, again)
    later = pipe("a fox", num_images_per_prompt=2, generator=generator, **options).images
    assert not torch.equal(rows, later)
