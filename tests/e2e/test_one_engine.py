"""Every workflow, samplers of every kind and sizes, of one model, through one engine: each picture is what its call alone draws, to the bit."""

import json
from typing import Any

import pytest
from PIL import Image, ImageDraw

import sfumato
from sfumato import bundled_model, hires_fix
from sfumato.pipeline.enlarging import enlarged
from sfumato.pipeline.together import draw_together
from sfumato.schedulers import scheduler_for

APPLE: dict[str, Any] = {"prompt": "a red apple, 3d style", "seeds": [1], "num_inference_steps": 3}
LARGE = {"width": 96, "height": 64}
HIRES = {"strength": 0.7, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def pipe() -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(bundled_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def photo(width: int = 64) -> Image.Image:
    """A red thing on white."""
    drawn = Image.new("RGB", (width, 64), "white")
    ImageDraw.Draw(drawn).ellipse((12, 12, width - 12, 52), fill="red", outline="black")
    return drawn


def half(width: int = 64) -> Image.Image:
    """A mask of the right half."""
    drawn = Image.new("L", (width, 64))
    drawn.paste(255, (width // 2, 0, width, 64))
    return drawn


WORKFLOWS: dict[str, dict[str, Any]] = {
    "words": {},
    "more steps, wide": LARGE | {"num_inference_steps": 5},
    "several": {"prompt": ["a rocket", "an owl"], "seeds": [1, 2]},
    "image": {"image": photo(), "strength": 0.7},
    "inpaint": {"image": photo(), "mask_image": half(), "mask_blur": 2, "paste_back": True},
    "only masked": {"image": photo(128), "mask_image": half(128), "padding_mask_crop": 8},
    "outpaint": {"image": photo(), "extend": (0, 0, 32, 0)},
    "variation": {"subseed": 5, "subseed_strength": 0.3},
    "tiled": LARGE | {"tile": 64},
    "seamless": {"seamless": "both"},
    "seamless along x, tiled": LARGE | {"seamless": "x", "tile": 64},
    "upscaled": LARGE | {"image": photo(), "resize_mode": "resize", "strength": 0.4, "tile": "model"},
    "rescaled": {"guidance_scale": 9.0, "guidance_rescale": 0.7},
    "interval": {"guidance_interval": (0.3, 0.7)},
    "perturbed": {"pag_scale": 3.0, "pag_applied_layers": ["up"]},
    "perturbed in an interval, inpaint": {
        "image": photo(), "mask_image": half(), "pag_scale": 3.0, "pag_applied_layers": ["up"], "guidance_interval": (0, 0.7),
    },
    "freeu": {"freeu": {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4}},
    "emphasis and editing": {"prompt": "a ([red:green:0.5] apple:1.3) [on blue::1] [3d|flat] style", "emphasis": "a1111"},
    "parts": {"prompt": "a red apple AND a leaf :0.5", "negative_prompt": "blue", "emphasis": "a1111"},
    "unguided": {"guidance_scale": 1.0},
    "nv": {"rng": "nv", "compat": "a1111"},
}  # fmt: skip

SAMPLERS: dict[str, dict[str, Any]] = {
    "Euler a": {},
    "DPM++ 2M Karras": LARGE,
    "DPM++ SDE": {"image": photo(), "strength": 0.7},
    "DPM++ 2M SDE": {"seamless": "both"},
    "DPM++ 3M SDE Exponential": {"tile": 64, **LARGE},
    "DDIM CFG++": {"guidance_scale": 1.5},
    "UniPC": {"image": photo(), "mask_image": half()},
    "Heun": {"prompt": "a [red:green:0.5] apple", "emphasis": "a1111"},
    "LCM": {"guidance_interval": (0, 0.5)},
}


def test_all_through_one_engine_are_what_they_are_alone(pipe: Any) -> None:
    calls = {name: APPLE | said for name, said in WORKFLOWS.items()}
    for sampler, said in SAMPLERS.items():
        calls[sampler] = APPLE | said | {"scheduler": scheduler_for(base=pipe.scheduler, sampler=sampler)}
    # The second pass of hires fix is a call of its own, over the first one's latents.
    first = pipe(**APPLE, output_type="latent")
    record = {"recipe": json.loads(first.recipes[0].to_json()), "enlarge": "latent"}
    latents = enlarged(pipe, first.images, 96, 96, "latent", (record,), first.recipes[0])
    calls["hires"] = APPLE | HIRES | {"image": latents, "width": 96, "height": 96}

    together = dict(zip(calls, draw_together(pipe, list(calls.values())), strict=True))

    own = pipe.scheduler
    for name, call in calls.items():
        options = dict(call)
        pipe.scheduler = options.pop("scheduler", own)
        alone = pipe(**options)
        assert not isinstance(together[name], Exception), (name, together[name])
        assert [one.recipe for one in together[name].images] == [one.recipe for one in alone.images], name
    pipe.scheduler = own
    hires = hires_fix(pipe, scale=1.5, strength=HIRES["strength"], second_steps=HIRES["num_inference_steps"], **APPLE)
    assert hires.images[0].recipe.pixels_sha256 == together["hires"].images[0].recipe.pixels_sha256
    hashes = [image.recipe.pixels_sha256 for result in together.values() for image in result.images]
    assert len(set(hashes)) == len(hashes), "each asks for another picture"
