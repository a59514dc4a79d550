"""Prompts with emphasis at the pipeline: what a picture's text is at each step, and that it is recorded."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.adapters import NO_ADAPTERS
from sfumato.errors import OptionError, PromptError
from sfumato.pipeline.conditioning import Embeds, PromptEncoder, conditioned
from sfumato.pipeline.prompt_rows import Rows
from sfumato.pipeline.request import Request, Text
from sfumato.pipeline.workflow import Asked
from sfumato.recipe import Recipe
from sfumato.schedulers import scheduler_for

RUN: dict[str, Any] = {"num_inference_steps": 4, "output_type": "np", "seeds": [1]}
MODES = ["a1111", "a1111_no_norm", "comfy", "compel"]


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, prompt: str, emphasis: str = "a1111", **options: Any) -> np.ndarray:
    return pipe(prompt, emphasis=emphasis, **{**RUN, **options}).images[0]


def rows(pipe: Any, prompt: str, negative: str = "", *, steps: int = 4, scale: float = 7.5) -> Rows:
    request = Request(
        texts=(Text(prompt=prompt, negative=negative),), images_per_prompt=1, height=64, width=64, steps=steps,
        guidance_scale=scale, guided=scale > 1, eta=0.0, clip_skip=None, emphasis="a1111",
    )  # fmt: skip
    return conditioned(request, PromptEncoder(pipe._readers()), Embeds())[0]


@pytest.mark.parametrize("emphasis", MODES)
def test_a_plain_prompt_is_what_it_is_without_emphasis_bit_for_bit(pipe: Any, emphasis: str) -> None:
    without = draw(pipe, "a fox, on a table", "none", negative_prompt="blur")
    assert np.array_equal(draw(pipe, "a fox, on a table", emphasis, negative_prompt="blur"), without)
    assert np.array_equal(pipe("a fox, on a table", negative_prompt="blur", **RUN).images[0], without)


@pytest.mark.parametrize(
    "text",
    ["(a fox:1.0)", "a (fox:1)", "a fox :1", "[x:a fox:0]", "[a fox:x:4]", "[a fox|a fox]", "<hypernet:x:1>a fox"],
)
def test_markup_that_says_nothing_changes_no_bit(pipe: Any, text: str) -> None:
    assert np.array_equal(draw(pipe, text), draw(pipe, "a fox", "none"))


@pytest.mark.parametrize("emphasis", MODES)
def test_a_weight_changes_the_picture(pipe: Any, emphasis: str) -> None:
    text = "a (fox)1.5" if emphasis == "compel" else "a (fox:1.5)"
    assert not np.array_equal(draw(pipe, text, emphasis), draw(pipe, "a fox", emphasis))
    # To others it is text.
    assert not np.array_equal(draw(pipe, text, emphasis), draw(pipe, text, "none"))


def test_a_change_is_the_one_text_before_and_the_other_after(pipe: Any) -> None:
    changed = rows(pipe, "[a fox:a house:3]")
    assert changed.changes.keys() == {3}
    assert torch.equal(changed.first["cond"].context, rows(pipe, "a fox").first["cond"].context)
    assert torch.equal(changed.changes[3]["cond"].context, rows(pipe, "a house").first["cond"].context)
    pictures = [draw(pipe, text) for text in ("[a fox:a house:2]", "a fox", "a house")]
    assert not any(np.array_equal(pictures[0], other) for other in pictures[1:])
    assert rows(pipe, "[a fox:a house:.5]", steps=8).changes.keys() == {4}


def test_an_alternation_takes_turns_with_two_conditionings(pipe: Any) -> None:
    turns = rows(pipe, "[a fox|a house]", steps=5)
    by_step = [turns.first["cond"], *(turns.changes[finished]["cond"] for finished in range(1, 5))]
    assert by_step[0] is by_step[2] is by_step[4]
    assert by_step[1] is by_step[3]
    assert by_step[0] is not by_step[1]
    assert np.array_equal(
        draw(pipe, "[a fox|a house]", num_inference_steps=1), draw(pipe, "a fox", num_inference_steps=1)
    )
    assert not np.array_equal(draw(pipe, "[a fox|a house]"), draw(pipe, "[a house|a fox]"))


def test_negative_prompts_change_too(pipe: Any) -> None:
    changed = rows(pipe, "a fox", "[blur:noise:2]")
    assert changed.changes.keys() == {2}
    assert changed.changes[2].keys() == {"uncond"}


def test_one_part_equals_itself_and_parts_compose(pipe: Any) -> None:
    assert np.array_equal(draw(pipe, "a fox :1"), draw(pipe, "a fox"))
    np.testing.assert_allclose(draw(pipe, "a fox AND a fox :0"), draw(pipe, "a fox"), atol=1e-5)
    np.testing.assert_allclose(draw(pipe, "a fox :.25 AND a fox :.75"), draw(pipe, "a fox"), atol=1e-4)
    np.testing.assert_allclose(
        draw(pipe, "a fox :2", guidance_scale=3.0), draw(pipe, "a fox", guidance_scale=6.0), atol=1e-5
    )
    assert not np.allclose(draw(pipe, "a fox AND a house"), draw(pipe, "a fox"), atol=1e-3)
    parted = rows(pipe, "a fox AND [a house:a tree:2] :-.5")
    assert parted.first.keys() == {"cond", "cond 2", "uncond"}
    assert parted.weights == (1.0, -0.5)
    assert parted.changes[2].keys() == {"cond", "cond 2"}


def test_without_guidance_parts_whose_weights_add_up_to_1_need_no_negative(pipe: Any) -> None:
    assert rows(pipe, "a fox", scale=1.0).first.keys() == {"cond"}
    assert rows(pipe, "a fox :.5 AND a house :.5", scale=1.0).first.keys() == {"cond", "cond 2"}
    assert rows(pipe, "a fox AND a house", scale=1.0).first.keys() == {"cond", "cond 2", "uncond"}
    for text in ("a fox :.5 AND a fox :.5", "a fox AND a fox :0"):
        np.testing.assert_allclose(
            draw(pipe, text, guidance_scale=1.0), draw(pipe, "a fox", guidance_scale=1.0), atol=1e-5
        )


def test_long_prompts_have_long_contexts_on_both_sides(pipe: Any) -> None:
    long = "a fox " * 50
    for prompt, negative in ((long, "blur"), ("a fox", long), ("a fox BREAK on a table", "")):
        both = rows(pipe, prompt, negative)
        assert both.first["cond"].context.shape[0] == both.first["uncond"].context.shape[0] == 154
    empty = rows(pipe, "", "").first["cond"].context
    padded = rows(pipe, long, "blur").first["uncond"].context
    assert torch.equal(padded[:77], rows(pipe, "blur", "").first["cond"].context)
    assert torch.equal(padded[77:], empty)
    assert not np.array_equal(draw(pipe, long), draw(pipe, "a fox " * 37 + "a"))


def test_a_prompt_s_length_may_change_during_a_run(pipe: Any) -> None:
    changed = rows(pipe, "[a fox:a fox BREAK a house:2]", "blur")
    assert {each["cond"].context.shape[0] for each in (changed.first, changed.changes[2])} == {154}
    assert draw(pipe, "[a fox:a fox BREAK a house:2]").shape == (64, 64, 3)


def test_a_picture_does_not_depend_on_longer_ones_beside_it(pipe: Any) -> None:
    prompts = ["a fox", "a (house:1.2) BREAK a [tree|bush] AND a hill", "a fox"]
    together = pipe(prompts, emphasis="a1111", **{**RUN, "seeds": [1, 2, 3]}).images
    for i, prompt in enumerate(prompts):
        assert np.array_equal(draw(pipe, prompt, seeds=[i + 1]), together[i])


def test_a_step_callback_sees_contexts_of_their_own_lengths(pipe: Any) -> None:
    seen: list[tuple[int, ...]] = []

    def look(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(tuple(tensors["prompt_embeds"].shape))
        return {}

    pipe(
        ["a fox", "a BREAK b"], emphasis="a1111", callback_on_step_end=look,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"], **{**RUN, "seeds": [1, 2]},
    )  # fmt: skip
    assert set(seen) == {(2, 154, 32)}


@pytest.mark.parametrize("emphasis", ["none", *MODES])
def test_emphasis_is_recorded_and_replayed(pipe: Any, emphasis: str) -> None:
    text = "a (fox:1.4) [red|(green:0.5)] (leaf)++ AND a house :0.5"
    picture = pipe(text, emphasis=emphasis, negative_prompt="(blur:1.2)", num_inference_steps=3, seeds=[3]).images[0]
    recipe = Recipe.from_json(picture.recipe.to_json())
    assert recipe.emphasis == emphasis
    assert recipe.prompt == text
    assert pipe.replay(recipe).identical


def test_a_recipe_of_before_has_none(pipe: Any) -> None:
    written = pipe("a (fox:1.4)", num_inference_steps=2, seeds=[3]).images[0].recipe
    older = re.sub(r'"emphasis": "none", ', "", written.to_json())
    assert older != written.to_json()
    assert Recipe.from_json(older) == written


def test_what_a_prompt_says_that_surprises_is_said(pipe: Any) -> None:
    notes = pipe("a fox, 16:9", emphasis="a1111", **RUN).notes
    assert any("weight of the whole prompt" in note for note in notes)
    assert pipe("a fox, 16:9", **RUN).notes == []
    assert any("hypernet" in note for note in pipe("<hypernet:a:1> a fox", emphasis="a1111", **RUN).notes)


def test_a_mode_that_is_none_is_refused(pipe: Any) -> None:
    with pytest.raises(OptionError, match="emphasis must be one of none, a1111"):
        pipe("a fox", emphasis="A1111", **RUN)


def test_networks_that_are_not_loaded_are_refused(pipe: Any) -> None:
    with pytest.raises(PromptError, match=r"'sketch', and no adapter of that name is loaded \(loaded: none\)"):
        pipe("a fox <lora:sketch:0.5>", emphasis="a1111", **RUN)
    with pytest.raises(PromptError, match="calls of their own"):
        pipe(["a fox <lora:sketch:0.5>", "a fox"], emphasis="a1111", **{**RUN, "seeds": [1, 2]})


def test_embeddings_beside_a_text_of_several_windows_are_refused(pipe: Any) -> None:
    negative = torch.zeros(1, 77, 32)
    assert draw(pipe, "a (fox:1.2)", negative_prompt_embeds=negative).shape == (64, 64, 3)
    with pytest.raises(PromptError, match="2 windows"):
        draw(pipe, "a BREAK b", negative_prompt_embeds=negative)


# -- models with two text encoders -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def xl(family_folders: Callable[[str], Path]) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(family_folders("sdxl"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def xl_rows(pipe: Any, emphasis: Any, prompt: str, negative: str | None = None, **options: Any) -> Rows:
    second = {name: value for name, value in options.items() if name.endswith("_2")}
    request = pipe._request(
        prompt, negative, None, None, 64, 64, 4, 7.5, 1, 0.0, options.get("clip_skip"), emphasis, second, Asked()
    )
    return pipe._rows(request, (None, None), NO_ADAPTERS)[0][0]


@pytest.mark.parametrize("emphasis", MODES)
@pytest.mark.parametrize("negative", [None, "blur"])
def test_both_encoders_read_a_plain_prompt_as_they_do_without_emphasis(
    xl: Any, emphasis: str, negative: str | None
) -> None:
    for skip in (None, 1):
        mine, plain = (
            xl_rows(xl, mode, "a fox, on a table", negative, clip_skip=skip).first for mode in (emphasis, "none")
        )
        for side in ("cond", "uncond"):
            assert torch.equal(mine[side].context, plain[side].context)
            assert torch.equal(mine[side].told.pooled, plain[side].told.pooled)  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
            assert torch.equal(mine[side].told.sizes, plain[side].told.sizes)  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
    assert np.array_equal(
        draw(xl, "a fox, on a table", emphasis, negative_prompt=negative),
        draw(xl, "a fox, on a table", "none", negative_prompt=negative),
    )


def test_a_weight_reaches_the_contexts_of_both_encoders_and_not_the_pooled_text(xl: Any) -> None:
    weighted, plain = (xl_rows(xl, "a1111_no_norm", text, "blur").first["cond"] for text in ("a (fox:2)", "a fox"))
    first = xl.text_encoder.config.width
    for part in (slice(None, first), slice(first, None)):
        assert torch.equal(weighted.context[2, part], 2 * plain.context[2, part])
        assert torch.equal(weighted.context[1, part], plain.context[1, part])
    assert torch.equal(weighted.told.pooled, plain.told.pooled)


def test_long_prompts_meet_a_text_of_zeros_as_long_as_they_are(xl: Any) -> None:
    both = xl_rows(xl, "a1111", "a fox BREAK a house").first
    assert both["cond"].context.shape == both["uncond"].context.shape == (154, xl.unet.config.context_dim)
    assert not both["uncond"].context.any()
    assert torch.equal(both["cond"].told.pooled, xl_rows(xl, "a1111", "a fox").first["cond"].told.pooled)  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]


def test_changes_and_parts_are_drawn_recorded_and_replayed_with_two_encoders(xl: Any) -> None:
    text = "a (fox:1.4) [red:green:2] AND a house :0.5"
    picture = xl(text, emphasis="a1111", num_inference_steps=3, seeds=[3]).images[0]
    assert picture.recipe.told == {"zeros": True}
    assert xl.replay(Recipe.from_json(picture.recipe.to_json())).identical
    assert not np.array_equal(draw(xl, text), draw(xl, text, "none"))


def test_each_encoder_reads_the_markup_of_its_own_prompt(xl: Any) -> None:
    first = xl.text_encoder.config.width
    both = xl_rows(
        xl, "a1111_no_norm", "a (fox:2)", "blur", prompt_2="a [(house:3):tree:2]", negative_prompt_2="(noise:1.5)"
    )
    own = xl_rows(xl, "a1111_no_norm", "a (fox:2)", "blur")
    other = xl_rows(xl, "a1111_no_norm", "a [(house:3):tree:2]", "(noise:1.5)")
    for row in ("cond", "uncond"):
        assert torch.equal(both.first[row].context[:, :first], own.first[row].context[:, :first])
        assert torch.equal(both.first[row].context[:, first:], other.first[row].context[:, first:])
        assert torch.equal(both.first[row].told.pooled, other.first[row].told.pooled)  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
    assert both.changes.keys() == {2}
    assert torch.equal(both.changes[2]["cond"].context[:, :first], own.first["cond"].context[:, :first])
    assert torch.equal(both.changes[2]["cond"].context[:, first:], other.changes[2]["cond"].context[:, first:])


def test_second_prompts_without_markup_are_what_they_are_without_emphasis(xl: Any) -> None:
    run = {**RUN, "prompt": "a fox", "prompt_2": "a house", "negative_prompt": "blur", "negative_prompt_2": "noise"}
    plain = xl(**run).images[0]
    for emphasis in MODES:
        assert np.array_equal(xl(**run, emphasis=emphasis).images[0], plain)
    marked = xl(**run | {"prompt_2": "a (house:1.6)"}, emphasis="a1111")
    assert not np.array_equal(marked.images[0], plain)
    recipe = Recipe.from_json(marked.recipes[0].to_json())
    assert recipe.told == {"prompt_2": "a (house:1.6)", "negative_prompt_2": "noise"}
    again = xl.replay(recipe)
    assert again.identical


def test_parts_of_second_prompts_go_with_those_of_the_first(xl: Any) -> None:
    weighed = xl_rows(xl, "a1111", "a fox AND a cat :0.5", "blur", prompt_2="a house AND a tree")
    assert weighed.weights == (1.0, 0.5)
    assert torch.equal(
        weighed.first["cond 2"].context, xl_rows(xl, "a1111", "a cat", "blur", prompt_2="a tree").first["cond"].context
    )
    one = xl_rows(xl, "a1111", "a fox AND a cat :0.5", "blur", prompt_2="a house")
    assert torch.equal(
        one.first["cond 2"].context, xl_rows(xl, "a1111", "a cat", "blur", prompt_2="a house").first["cond"].context
    )
    with pytest.raises(PromptError, match="prompt_2 has 2 parts and the prompt 1"):
        xl("a fox", "a house AND a tree", emphasis="a1111", **RUN)
    with pytest.raises(PromptError, match="calls 'nobody', and no adapter of that name is loaded"):
        xl("a fox", "a house <lora:nobody:1>", emphasis="a1111", **RUN)
    notes = xl("a fox AND a cat", "a house AND a tree :0.3", emphasis="a1111", **RUN).notes
    assert "the weights of the parts of prompt_2 are not read; those of the prompt's parts hold" in notes


def test_embeddings_of_prompts_with_emphasis_draw_what_the_prompts_draw(pipe: Any, xl: Any) -> None:
    words = {"prompt": "a (fox:1.4)", "negative_prompt": "blur, " * 50}
    context, negative = pipe.encode_prompt(**words, emphasis="a1111")
    assert context.shape[1] == negative.shape[1] == 154
    given = pipe(prompt_embeds=context, negative_prompt_embeds=negative, **RUN).images[0]
    assert np.array_equal(given, pipe(**words, emphasis="a1111", **RUN).images[0])
    several, none = pipe.encode_prompt(
        ["a (fox:1.4)", "a BREAK b"], do_classifier_free_guidance=False, emphasis="a1111"
    )
    assert (several.shape[:2], none) == ((2, 154), None)

    words |= {"prompt_2": "a (house:0.5)"}
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    given = dict(zip(names, xl.encode_prompt(**words, emphasis="comfy"), strict=True))
    assert np.array_equal(xl(**given, **RUN).images[0], xl(**words, emphasis="comfy", **RUN).images[0])
    for moving in ("a [fox:cat:2]", "a fox AND a cat", "a fox :0.5"):
        with pytest.raises(PromptError, match="in parts or changes on the way, which embeddings can't say"):
            pipe.encode_prompt(moving, emphasis="a1111")
    with pytest.raises(PromptError, match="in parts or changes on the way"):
        pipe.encode_prompt("a fox", negative_prompt="[a|b]", emphasis="a1111")
    with pytest.raises(OptionError, match="emphasis must be"):
        pipe.encode_prompt("a fox", emphasis="loud")


def test_embeddings_beside_emphasis_keep_what_is_told_beside_them(xl: Any) -> None:
    context, negative, pooled, negative_pooled = xl.encode_prompt("a fox", negative_prompt="blur")
    given = xl(
        prompt_embeds=context, pooled_prompt_embeds=pooled, negative_prompt_embeds=negative,
        negative_pooled_prompt_embeds=negative_pooled, emphasis="a1111", **RUN,
    ).images[0]  # fmt: skip
    assert np.array_equal(given, draw(xl, "a fox", negative_prompt="blur"))


def test_a_sampler_that_asks_for_the_unconditioned_answer_composes_parts(pipe: Any) -> None:
    own = pipe.scheduler
    pipe.scheduler = scheduler_for(base=own, sampler="DDIM CFG++")
    try:
        parted = draw(pipe, "a fox :.5 AND a fox :.5", guidance_scale=0.6)
        np.testing.assert_allclose(parted, draw(pipe, "a fox", guidance_scale=0.6), atol=1e-4)
    finally:
        pipe.scheduler = own
