"""Options on guidance at the pipeline: checked, recorded, replayed, the same alone as in a batch, and nothing where they say nothing."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sfumato
from sfumato.diffusion.spacing import Levels
from sfumato.errors import OptionError, RecipeError, UnsupportedError
from sfumato.models.freeu import FreeU
from sfumato.pipeline.guidance_options import GuidanceOptions
from sfumato.recipe import Recipe

SETTINGS: dict[str, Any] = {"num_inference_steps": 4, "height": 64, "width": 64}
FACTORS = {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4}
OPTIONS: dict[str, dict[str, Any]] = {
    "rescale": {"guidance_rescale": 0.7},
    "interval": {"guidance_interval": [0.25, 0.75]},
    "pag": {"pag_scale": 9.0},
    "pag elsewhere": {"pag_scale": 9.0, "pag_applied_layers": ["down_blocks.0", "up"]},
    "pag for a while": {"pag_scale": 9.0, "pag_adaptive_scale": 0.012},
    "freeu": {"freeu": FACTORS},
    "all": {"guidance_rescale": 0.5, "guidance_interval": [0.0, 0.5], "pag_scale": 9.0, "freeu": FACTORS},
}


def opened(folder: Path, kind: Any = sfumato.StableDiffusionPipeline, **options: Any) -> Any:
    pipe = kind.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def louder(pipe: Any) -> Any:
    """With self-attentions that are heard in the few bits of a picture."""
    with torch.no_grad():
        for name in pipe.unet.self_attentions():
            pipe.unet.get_submodule(f"{name}.to_out").weight.mul_(6)
    return pipe


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> Any:
    return louder(opened(tiny_folder))


@pytest.fixture(scope="module")
def plain(pipe: Any) -> Any:
    return pipe("a fox", seeds=[1], **SETTINGS).images[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_each_changes_the_picture_is_recorded_and_replays(pipe: Any, plain: Any, name: str) -> None:
    image = pipe("a fox", seeds=[1], **OPTIONS[name], **SETTINGS).images[0]
    assert not np.array_equal(plain, image), "the option did nothing"
    recipe = Recipe.from_json(image.recipe.to_json())
    assert recipe == image.recipe
    implied = {"pag_applied_layers": ["mid"], "pag_adaptive_scale": 0.0} if "pag_scale" in OPTIONS[name] else {}
    assert recipe.guidance == implied | OPTIONS[name]
    result = pipe.replay(recipe)
    assert result.identical
    assert result.recipe == image.recipe
    assert result.differences == []


@pytest.mark.parametrize(
    "nothing",
    [
        {"guidance_rescale": 0.0},
        {"guidance_interval": (0, 1)},
        {"guidance_interval": (0.0, 0.9), "num_inference_steps": 1},
        {"pag_scale": 0.0},
        {"pag_scale": 3.0, "pag_applied_layers": []},
        {"freeu": (1, 1, 1, 1)},
        {"guidance_rescale": None, "guidance_interval": None, "pag_scale": None, "freeu": None},
    ],
)
def test_what_asks_nothing_changes_no_bit(pipe: Any, plain: Any, nothing: dict[str, Any]) -> None:
    settings = SETTINGS | {"num_inference_steps": nothing.get("num_inference_steps", 4)}
    expected = pipe("a fox", seeds=[1], **settings).images[0]
    got = pipe("a fox", seeds=[1], **settings | nothing).images[0]
    assert np.array_equal(got, expected)
    if "num_inference_steps" not in nothing:
        assert np.array_equal(expected, plain)
        assert got.recipe == plain.recipe
        assert got.recipe.guidance == {}


def test_a_batch_draws_as_each_alone(pipe: Any) -> None:
    options = OPTIONS["all"] | {"emphasis": "a1111"}
    prompts = ["a fox", "a (cat:1.3) AND a dog:0.5", "a fox AND a moon:-0.4"]
    together = pipe(prompts, seeds=[1, 2, 3], **options, **SETTINGS).images
    for prompt, seed, image in zip(prompts, [1, 2, 3], together, strict=True):
        alone = pipe(prompt, seeds=[seed], **options, **SETTINGS).images[0]
        assert np.array_equal(alone, image)
        assert pipe.replay(image.recipe).identical


@pytest.mark.parametrize("name", OPTIONS)
def test_parts_of_a_prompt_go_with_each(pipe: Any, name: str) -> None:
    both = "a fox AND a green moon:0.6"
    run = {"seeds": [1], "emphasis": "a1111", **SETTINGS}
    image = pipe(both, **run, **OPTIONS[name]).images[0]
    assert not np.array_equal(image, pipe(both, **run).images[0])
    assert pipe.replay(image.recipe).identical
    one = pipe("a fox AND a fox:0", **run, **OPTIONS[name], output_type="latent").images
    alone = pipe("a fox", **run, **OPTIONS[name], output_type="latent").images
    torch.testing.assert_close(one, alone, atol=1e-3, rtol=1e-3)


def test_pictures_begin_pictures_with_each(pipe: Any) -> None:
    begun = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    mask = Image.fromarray(np.repeat(np.repeat(np.eye(8, dtype=np.uint8) * 255, 8, 0), 8, 1))
    for workflow in ({"image": begun, "strength": 0.9}, {"image": begun, "mask_image": mask}):
        inputs = {name: value for name, value in workflow.items() if name != "strength"}
        before = pipe("a fox", seeds=[1], num_inference_steps=4, **workflow).images[0]
        for options in OPTIONS.values():
            image = pipe("a fox", seeds=[1], num_inference_steps=4, **workflow, **options).images[0]
            assert not np.array_equal(image, before)
            assert pipe.replay(image.recipe, inputs).identical


def test_freeu_is_the_pipeline_s_and_not_its_u_net_s(pipe: Any, plain: Any) -> None:
    other = sfumato.StableDiffusionPipeline.from_pipe(pipe)
    other.enable_freeu(**FACTORS)
    assert other.unet is pipe.unet
    with_it = other("a fox", seeds=[1], **SETTINGS).images[0]
    assert with_it.recipe.guidance == {"freeu": FACTORS}
    assert np.array_equal(pipe("a fox", seeds=[1], **SETTINGS).images[0], plain)
    assert not np.array_equal(with_it, plain)
    # A replay is as the recipe says, whatever is switched, and leaves the switch as it was.
    assert other.replay(plain.recipe).identical
    assert pipe.replay(with_it.recipe).identical
    assert np.array_equal(other("a fox", seeds=[1], **SETTINGS).images[0], with_it)
    assert np.array_equal(other("a fox", seeds=[1], freeu=(1, 1, 1, 1), **SETTINGS).images[0], plain)
    other.disable_freeu()
    assert np.array_equal(other("a fox", seeds=[1], **SETTINGS).images[0], plain)
    assert sfumato.StableDiffusionImg2ImgPipeline.from_pipe(pipe)._freeu is None


def test_hires_fix_guides_both_passes(pipe: Any) -> None:
    image = sfumato.hires_fix(pipe, "a fox", scale=2, seeds=[1], **OPTIONS["all"], **SETTINGS).images[0]
    first = image.recipe.inputs["image"]["recipe"]
    assert first["guidance"] == image.recipe.guidance != {}
    assert pipe.replay(image.recipe).identical


PAG = [
    (sfumato.StableDiffusionPAGPipeline, sfumato.AutoPipelineForText2Image, {}),
    (sfumato.StableDiffusionPAGImg2ImgPipeline, sfumato.AutoPipelineForImage2Image, {"image"}),
    (sfumato.StableDiffusionPAGInpaintPipeline, sfumato.AutoPipelineForInpainting, {"image", "mask_image"}),
]


@pytest.mark.parametrize(("kind", "auto", "needs"), PAG)
def test_names_of_diffusers_assume_a_scale(tiny_folder: Path, kind: Any, auto: Any, needs: set[str]) -> None:
    pipe = opened(tiny_folder, auto, enable_pag=True, pag_applied_layers=["up_blocks"])
    assert type(pipe) is kind
    assert pipe.pag_applied_layers == ["up_blocks"]
    given = {name: Image.new("RGB", (64, 64), (200, 90, 30)) for name in needs}
    run = {"num_inference_steps": 3, "seeds": [1], **given}
    recipe = pipe("a fox", **run).images[0].recipe
    assert recipe.guidance == {"pag_scale": 3.0, "pag_adaptive_scale": 0.0, "pag_applied_layers": ["up_blocks"]}
    assert (pipe.pag_scale, pipe.do_perturbed_attention_guidance) == (3.0, True)
    assert pipe("a fox", pag_scale=0.0, **run).images[0].recipe.guidance == {}
    assert (pipe.pag_scale, pipe.do_perturbed_attention_guidance) == (0.0, False)
    assert type(auto.from_pipe(pipe)) is kind
    assert auto.from_pipe(pipe).pag_applied_layers == ["up_blocks"]
    assert auto.from_pipe(pipe, enable_pag=False)("a fox", **run).images[0].recipe.guidance == {}
    ordinary = opened(tiny_folder)
    assert type(auto.from_pipe(ordinary)) is not kind
    assert auto.from_pipe(ordinary, enable_pag=True, pag_applied_layers="mid").pag_applied_layers == ["mid"]
    assert ordinary.replay(recipe, given).identical
    with pytest.raises(OptionError, match="'nowhere' is in the name of no self-attention"):
        kind.from_pretrained(tiny_folder, pag_applied_layers="nowhere")


def test_a_pipeline_with_a_scale_saves_and_enlarges_as_one(tiny_folder: Path, tmp_path: Path) -> None:
    pipe = opened(tiny_folder, sfumato.StableDiffusionPAGPipeline)
    pipe.save_pretrained(tmp_path / "saved")
    again = opened(tmp_path / "saved", sfumato.StableDiffusionPAGPipeline)
    run = {"num_inference_steps": 2, "seeds": [1]}
    assert np.array_equal(again("a fox", **run).images[0], pipe("a fox", **run).images[0])
    large = sfumato.hires_fix(pipe, "a fox", **run).images[0]
    assert large.recipe.guidance["pag_scale"] == 3.0
    parts = {name: part for name, part in pipe.components.items() if name != "feature_extractor"}
    built = sfumato.StableDiffusionPAGPipeline(**parts, pag_applied_layers="down")
    assert built.pag_applied_layers == ["down"]


def test_models_of_sdxl_have_them_too(family_folders: Any) -> None:
    pipe = louder(opened(family_folders("sdxl"), sfumato.StableDiffusionPAGPipeline))
    assert type(pipe) is sfumato.StableDiffusionXLPAGPipeline
    run = {"num_inference_steps": 3, "seeds": [1]}
    image = pipe("a fox", **run).images[0]
    assert not np.array_equal(image, pipe("a fox", pag_scale=0, **run).images[0])
    assert pipe.replay(image.recipe).identical
    other = sfumato.AutoPipelineForImage2Image.from_pipe(pipe)
    assert type(other) is sfumato.StableDiffusionXLPAGImg2ImgPipeline
    assert type(sfumato.AutoPipelineForInpainting.from_pipe(pipe)) is sfumato.StableDiffusionXLPAGInpaintPipeline


def test_a_picture_that_is_edited_is_guided_by_all(family_folders: Any) -> None:
    pipe = louder(opened(family_folders("instruct-pix2pix")))
    begun = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    run = {"image": begun, "num_inference_steps": 4, "seeds": [1]}
    before = pipe("a fox", **run).images[0]
    for options in OPTIONS.values():
        image = pipe("a fox", **run, **options).images[0]
        assert not np.array_equal(image, before)
        assert pipe.replay(image.recipe, {"image": begun}).identical


# -- what is refused, and what is said ---------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"guidance_rescale": 1.5}, "from 0 to 1"),
    ({"guidance_rescale": math.nan}, "finite"),
    ({"guidance_interval": 0.5}, r"\(start, end\)"),
    ({"guidance_interval": "01"}, r"\(start, end\)"),
    ({"guidance_interval": (0.5, 0.5)}, "must start before it ends"),
    ({"guidance_interval": (0.8, 0.2)}, "must start before it ends"),
    ({"guidance_interval": (-1, 1)}, "from 0 to 1"),
    ({"guidance_interval": (0.51, 0.6)}, "holds none of 4 steps"),
    ({"pag_scale": -1}, "at least 0"),
    ({"pag_scale": "much"}, "finite"),
    ({"pag_adaptive_scale": 0.1}, "give a pag_scale"),
    ({"pag_scale": 3, "pag_applied_layers": 7}, "a list of texts"),
    ({"pag_scale": 3, "pag_applied_layers": "nowhere"}, r"this model has them in down_blocks.0, mid_block, up_blocks.1"),
    ({"pag_scale": 3, "pag_applied_layers": "(a+)+$"}, "names no layers"),
    ({"pag_scale": 3, "pag_applied_layers": "(.|.)" * 9}, "names no layers"),
    ({"pag_scale": 3, "pag_applied_layers": "mid("}, "names no layers"),
    ({"pag_scale": 3, "pag_applied_layers": ".*.*.*x"}, "names no layers"),
    ({"freeu": (1, 1, 1)}, "four factors"),
    ({"freeu": {"s1": 1}}, "four factors"),
    ({"freeu": (0, 1, 1, 1)}, "FreeU's s1 is 0"),
    ({"freeu": True}, "four factors"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_options_that_can_t_be(pipe: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipe("a fox", seeds=[1], **options, **SETTINGS)


def test_other_options_are_still_refused(pipe: Any) -> None:
    with pytest.raises(UnsupportedError, match="guidance_end"):
        pipe("a fox", guidance_end=0.5, **SETTINGS)


def test_cfgpp_has_nothing_to_rescale(tiny_folder: Path) -> None:
    pipe = opened(tiny_folder)
    pipe.scheduler = sfumato.KDiffusionScheduler(sampler_name="ddim_cfgpp")
    with pytest.raises(OptionError, match=r"CFG\+\+"):
        pipe("a fox", guidance_rescale=0.5, **SETTINGS)
    image = pipe("a fox", seeds=[1], guidance_interval=(0.2, 0.8), pag_scale=3.0, **SETTINGS).images[0]
    assert pipe.replay(image.recipe).identical


@pytest.mark.parametrize("name", ["guidance_rescale", "guidance_interval"])
def test_what_does_nothing_without_guidance_is_said(pipe: Any, name: str) -> None:
    value = {"guidance_rescale": 0.5, "guidance_interval": (0.5, 1)}[name]
    output = pipe("a fox", seeds=[1], guidance_scale=1.0, **{name: value}, **SETTINGS)
    assert f"{name} does nothing: there is no guidance" in output.notes
    assert not pipe("a fox", seeds=[1], **{name: value}, **SETTINGS).notes


@pytest.mark.parametrize(
    "wrong",
    [
        {"guidance_end": 0.5},
        {"guidance_interval": [1, 0]},
        {"freeu": "yes"},
        {"pag_scale": 3, "pag_applied_layers": ["(a+)+$"]},
        {"pag_scale": "3"},
        {"pag_scale": 10**400},
    ],
)
def test_a_recipe_s_guidance_is_checked(pipe: Any, plain: Any, wrong: dict[str, Any]) -> None:
    recipe = replace(plain.recipe, guidance=wrong)
    with pytest.raises((RecipeError, OptionError)):
        pipe.replay(recipe)


def test_an_older_recipe_has_none(pipe: Any, plain: Any) -> None:
    values = {
        name: value for name, value in __import__("json").loads(plain.recipe.to_json()).items() if name != "guidance"
    }
    assert pipe.replay(Recipe.from_dict(values)).identical


@given(start=st.floats(0, 1), end=st.floats(0, 1), steps=st.integers(1, 120))
def test_the_steps_that_begin_in_the_interval_are_those_that_are_guided(start: float, end: float, steps: int) -> None:
    start, end = sorted((start, end))
    if start == end:
        return
    levels = Levels(sigmas=tuple(float(steps - i) for i in range(steps + 1)), timesteps=tuple(map(float, range(steps))))
    options = GuidanceOptions(interval=(start, end))
    begins = [step / steps for step in range(steps)]
    near = [share for share in begins if min(abs(share - start), abs(share - end)) < 1e-6]
    try:
        low, high = options.of_run(levels, unconditioned=False)["interval"]
    except OptionError:
        assert not any(start <= share < end for share in begins if share not in near)
        return
    for step, share in enumerate(begins):
        if share not in near:
            assert (low < levels.sigmas[step] <= high) == (start <= share < end)


def test_factors_may_be_given_in_any_form(pipe: Any) -> None:
    forms = [FACTORS, tuple(FACTORS.values()), [*FACTORS.values()], FreeU(**FACTORS)]
    pictures = [pipe("a fox", seeds=[1], freeu=form, **SETTINGS).images[0] for form in forms]
    assert all(np.array_equal(pictures[0], one) for one in pictures)
