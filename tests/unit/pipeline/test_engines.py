"""A pipeline's engine: set, recorded, replayed; what it can't do is said."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import sfumato
from sfumato.engine.evaluators import Task, choosing
from sfumato.errors import EngineError, RecipeError
from sfumato.images import read_recipe
from sfumato.pipeline.together import draw_together
from sfumato.recipe import Recipe

SETTINGS: dict[str, Any] = {"num_inference_steps": 2, "seeds": [1]}


class Near:
    """An engine whose answers are a little off, as another library's are."""

    name = "openvino"
    asked = 0

    def prepare(self, task: Task) -> Callable[[Sequence[Tensor]], Tensor]:
        def answer(inputs: Sequence[Tensor]) -> Tensor:
            Near.asked += 1
            return task.function(task.network, task.form, *inputs) * (1 + 5e-4)

        return answer


@pytest.fixture
def pipe(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(choosing.KINDS, "openvino", Near)
    monkeypatch.setattr(Near, "asked", 0)
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_picture_says_its_engine_and_is_replayed_by_it(pipe: Any, tmp_path: Path) -> None:
    eager = pipe("a fox", **SETTINGS).images[0]
    assert (eager.recipe.engine, pipe.engine, Near.asked) == ("eager", "eager", 0)
    image = pipe.set_engine("openvino")("a fox", **SETTINGS).images[0]
    assert image.recipe.engine == pipe.engine == "openvino"
    assert Near.asked == 4, "PLMS asks thrice in two steps; then the picture is decoded"
    image.save(tmp_path / "fox.png")
    recipe = read_recipe(tmp_path / "fox.png")
    pipe.set_engine("eager")
    replayed = pipe.replay(recipe)
    assert (replayed.identical, replayed.differences) == (True, [])
    assert pipe.engine == "eager", "a replay leaves the engine as it was"
    assert pipe.replay(eager.recipe).identical


def test_where_an_engine_is_absent_a_replay_is_eager_and_says_so(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = pipe.set_engine("openvino")("a fox", **SETTINGS).images[0].recipe

    def absent() -> None:
        raise EngineError("not here")

    monkeypatch.setitem(choosing.KINDS, "openvino", absent)
    pipe.set_engine("eager")
    with pytest.raises(EngineError, match="not here"):
        pipe.set_engine("openvino")
    assert "engine: openvino then, eager now" in pipe.replay(recipe).differences


def test_what_an_engine_cannot_do_is_eager_and_said(pipe: Any) -> None:
    options = SETTINGS | {"freeu": (0.9, 0.2, 1.2, 1.4)}
    output = pipe.set_engine("openvino")("a fox", **options)
    assert "engine openvino: evaluated eagerly where there was FreeU, which it can't do" in output.notes
    assert Near.asked == 1, "the decoder has no FreeU"
    assert pipe.replay(output.images[0].recipe).identical


def test_calls_that_are_drawn_together_share_the_engine(pipe: Any) -> None:
    pipe.set_engine("openvino")
    calls = [{"prompt": "a fox", **SETTINGS}, {"prompt": "a cat", **SETTINGS, "num_inference_steps": 3}]
    made = draw_together(pipe, calls)
    alone = [pipe(**call).images[0] for call in calls]
    for output, image in zip(made, alone, strict=True):
        assert output.images[0].recipe.engine == "openvino"
        assert output.images[0].tobytes() == image.tobytes()


def test_a_recipe_s_engine_is_one_that_there_is() -> None:
    made = {
        "prompt": "a fox",
        "seed": 1,
        "sampler": "euler",
        "scheduler": {},
        "steps": 1,
        "guidance_scale": 1,
        "width": 8,
        "height": 8,
    }
    there = {"dtype": "float32", "device": "cpu", "model": "m"}
    assert Recipe(**made, **there).engine == "eager"
    with pytest.raises(RecipeError, match="engine is 'auto'"):
        Recipe(**made, **there, engine="auto")
