"""A request is checked before any work is done, and the message says what to do."""

import math

import numpy as np
import pytest
import torch

from sfumato.errors import OptionError, PromptError, SizeError
from sfumato.pipeline.request import check_count, check_number, check_prompts, check_size


def test_sizes_are_multiples_of_eight_and_of_the_vae() -> None:
    assert check_size(512, 768, 8) == (512, 768)
    assert check_size(48, 64, 16) == (48, 64)
    for bad in (0, -8, 63, 7):
        with pytest.raises(SizeError, match="multiple of 8"):
            check_size(bad, 64, 4)
    with pytest.raises(SizeError, match="multiple of 16, not 24; try 32"):
        check_size(24, 64, 16)
    with pytest.raises(SizeError, match=r"width must be a whole number of pixels, not 64\.0"):
        check_size(64, 64.0, 8)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1, "7", None, True])
def test_numbers_are_finite_and_in_range(bad: object) -> None:
    with pytest.raises(OptionError, match="guidance_scale"):
        check_number("guidance_scale", bad, least=0.0)


def test_counts_are_whole_and_in_range() -> None:
    assert check_count("steps", 5, most=10) == 5
    for bad in (0, 11, 2.5, "3", True):
        with pytest.raises(OptionError, match="steps must be"):
            check_count("steps", bad, most=10)


def test_prompts_pair_with_negatives() -> None:
    texts = check_prompts(["a", "b"], "no", None, None)
    assert [(t.prompt, t.negative) for t in texts] == [("a", "no"), ("b", "no")]
    assert check_prompts("a", None, None, None)[0].negative == ""
    with pytest.raises(PromptError, match="no prompt"):
        check_prompts(None, None, None, None)
    with pytest.raises(PromptError, match="empty"):
        check_prompts([], None, None, None)
    with pytest.raises(PromptError, match="1 negative prompts for 2 prompts"):
        check_prompts(["a", "b"], ["x"], None, None)
    with pytest.raises(PromptError, match="a string or a list of strings"):
        check_prompts([1], None, None, None)  # type: ignore[list-item]


def test_embeddings_stand_in_for_prompts() -> None:
    embeds = torch.zeros(2, 77, 8)
    assert len(check_prompts(None, None, embeds, None)) == 2
    with pytest.raises(PromptError, match="both prompt and prompt_embeds"):
        check_prompts("a", None, embeds, None)
    with pytest.raises(PromptError, match="batch × tokens × dim"):
        check_prompts(None, None, embeds[0], None)
    with pytest.raises(PromptError, match="must have the shape"):
        check_prompts(None, None, embeds, embeds[:1])


def test_numbers_of_numpy_are_numbers() -> None:
    assert check_size(np.int64(64), np.uint16(32), 8) == (64, 32)
    assert type(check_count("steps", np.int64(5))) is int
    assert type(check_number("guidance_scale", np.float32(2.5), least=0.0)) is float
    for bad in (np.bool_(True), np.float64(2.0), np.nan):
        with pytest.raises(OptionError):
            check_count("steps", bad)
    with pytest.raises(OptionError):
        check_number("guidance_scale", np.float32("nan"), least=0.0)
