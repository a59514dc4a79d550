"""Calls of all kinds through one engine: each picture is what the call alone draws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.engine import ImageDone
from sfumato.errors import SizeError, UsageError
from sfumato.pipeline.together import draw_together
from sfumato.schedulers import scheduler_for


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_each_is_what_it_is_alone(pipe: Any) -> None:
    sketch = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    base = {"prompt": "a fox", "seeds": [3], "num_inference_steps": 3}
    calls: list[dict[str, Any]] = [
        base,
        base | {"num_inference_steps": 5, "width": 48},
        base | {"scheduler": scheduler_for(base=pipe.scheduler, sampler="DPM++ SDE"), "guidance_scale": 1.0},
        base | {"scheduler": scheduler_for(base=pipe.scheduler, sampler="DPM adaptive")},
        base | {"image": sketch, "strength": 0.7},
        base | {"image": sketch, "mask_image": mask, "paste_back": True},
        base | {"prompt": "a (red:1.4) fox AND a dog", "emphasis": "a1111", "rng": "nv", "seeds": [4]},
        base | {"compat": "a1111", "prompt": ["a", "b"], "seeds": [1, 2]},
    ]
    heard: set[int] = set()
    own = pipe.scheduler
    made = draw_together(pipe, calls, lambda number, event: heard.add(number) if isinstance(event, ImageDone) else None)
    assert heard == set(range(len(calls)))
    for call, result in zip(calls, made, strict=True):
        options = dict(call)
        pipe.scheduler = options.pop("scheduler", own)
        alone = pipe(**options)
        assert [one.recipe for one in result.images] == [one.recipe for one in alone.images], call
    assert len({image.recipe.pixels_sha256 for result in made for image in result.images}) == len(calls) + 1


def test_one_that_can_not_be_drawn_leaves_the_others_alone(pipe: Any) -> None:
    base = {"prompt": "a fox", "seeds": [3], "num_inference_steps": 1}
    bad, good = draw_together(pipe, [base | {"width": 63}, base])
    assert isinstance(bad, SizeError)
    assert good.images[0].size == (64, 64)
    assert all(isinstance(one, SizeError) for one in draw_together(pipe, [base | {"width": 63}]))


def test_refused(pipe: Any) -> None:
    with pytest.raises(UsageError, match="seeds"):
        draw_together(pipe, [{"prompt": "a fox"}])
    with pytest.raises(UsageError, match="all exact or none"):
        draw_together(pipe, [{"prompt": "a fox", "seeds": [1]}, {"prompt": "a fox", "seeds": [1], "exact": True}])
    with pytest.raises(UsageError, match="take no on_event"):
        draw_together(pipe, [{"prompt": "a fox", "seeds": [1], "on_event": print}])
