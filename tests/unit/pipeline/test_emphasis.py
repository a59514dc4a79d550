"""What becomes of a context by its tokens' weights, in each program's manner."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato.models.clip_text import CLIPTextConfig, CLIPTextEncoder, TextEncoding
from sfumato.pipeline.emphasis import weighted_context
from sfumato.text.prompts import Emphasis, empty_window, read_windows
from sfumato.text.tokenizer import Tokenizer

CLIP = Tokenizer.bundled_clip()
CPU = torch.device("cpu")
MODES: tuple[Emphasis, ...] = ("a1111", "a1111_no_norm", "comfy", "compel")


@pytest.fixture(scope="module")
def encoder() -> CLIPTextEncoder:
    torch.manual_seed(0)
    encoder = CLIPTextEncoder(CLIPTextConfig(width=16, layers=2, heads=2, mlp_width=32)).eval().requires_grad_(False)
    for parameter in encoder.parameters():
        parameter.normal_(std=0.3)
    return encoder


@pytest.fixture(scope="module")
def context(encoder: CLIPTextEncoder) -> Callable[[str, Emphasis], Tensor]:
    def make(text: str, emphasis: Emphasis) -> Tensor:
        windows = read_windows(text, emphasis, CLIP).windows
        return weighted_context(windows, empty_window(CLIP), emphasis, encode, CPU).hidden[0]

    def encode(ids: Tensor, seen: Tensor | None) -> TextEncoding:
        return encoder(ids, seen=seen)

    return make


def plain(encoder: CLIPTextEncoder, text: str, seen: list[bool] | None = None) -> Tensor:
    mask = None if seen is None else torch.tensor([seen + [True] * (77 - len(seen))])
    return encoder(torch.tensor([CLIP.encode(text).ids]), seen=mask).hidden[0]


@pytest.mark.parametrize("emphasis", MODES)
@pytest.mark.parametrize("mark", ["{}", "({})1.0", "({}:1.0)"])
def test_weights_of_1_change_no_bit(
    encoder: CLIPTextEncoder, context: Callable[[str, Emphasis], Tensor], emphasis: Emphasis, mark: str
) -> None:
    # What is a weight in one's words is text in another's.
    if mark == ("({})1.0" if emphasis == "compel" else "({}:1.0)") or mark == "{}":
        assert torch.equal(context("a " + mark.format("red") + " apple", emphasis), plain(encoder, "a red apple"))
    else:
        assert not torch.allclose(
            context("a " + mark.format("red") + " apple", emphasis), plain(encoder, "a red apple")
        )
    assert torch.equal(context("", emphasis), plain(encoder, ""))


def test_a1111_scales_tokens_and_keeps_the_mean(encoder: CLIPTextEncoder, context: Callable[..., Tensor]) -> None:
    before = plain(encoder, "a red apple")
    weights = torch.ones(77, 1)
    weights[2:3] = 1.5
    scaled = before * weights
    torch.testing.assert_close(context("a (red:1.5) apple", "a1111_no_norm"), scaled)
    kept = context("a (red:1.5) apple", "a1111")
    torch.testing.assert_close(kept, scaled * (before.mean() / scaled.mean()))
    torch.testing.assert_close(kept.mean(), before.mean())


def test_a1111_keeps_the_mean_of_each_window_by_itself(
    encoder: CLIPTextEncoder, context: Callable[..., Tensor]
) -> None:
    both = context("a (red:1.5) apple BREAK a table", "a1111")
    assert both.shape[0] == 154
    torch.testing.assert_close(both[:77], context("a (red:1.5) apple", "a1111"))
    assert torch.equal(both[77:], plain(encoder, "a table"))


@pytest.mark.parametrize("weight", [-1.0, 0.0, 0.5, 1.5])
def test_comfy_moves_tokens_from_the_empty_text(
    encoder: CLIPTextEncoder, context: Callable[..., Tensor], weight: float
) -> None:
    words, empty = plain(encoder, "a red apple"), plain(encoder, "")
    expected = words.clone()
    expected[2] = empty[2] + weight * (words[2] - empty[2])
    torch.testing.assert_close(context(f"a (red:{weight}) apple", "comfy"), expected)


def test_compel_moves_and_blends_with_the_text_without_what_weighs_less(
    encoder: CLIPTextEncoder, context: Callable[..., Tensor]
) -> None:
    empty = plain(encoder, "")

    def moved(hidden: Tensor) -> Tensor:
        weights = torch.ones(77, 1)
        weights[1], weights[2], weights[3] = 0.5, 1.5, 0.25
        return empty + (hidden - empty) * weights

    without_a = moved(plain(encoder, "a red apple", [True, False]))
    without_apple = moved(plain(encoder, "a red apple", [True, True, True, False]))
    shares = [1.0, math.tan(0.5 * math.pi / 2), math.tan(0.75 * math.pi / 2)]
    parts = [moved(plain(encoder, "a red apple")), without_a, without_apple]
    expected = sum(share * part for share, part in zip(shares, parts, strict=True)) / sum(shares)
    torch.testing.assert_close(context("(a)0.5 (red)1.5 (apple)0.25", "compel"), expected)


def test_compel_s_weight_of_0_leaves_the_text_without_it(
    encoder: CLIPTextEncoder, context: Callable[..., Tensor]
) -> None:
    empty, without = plain(encoder, ""), plain(encoder, "a red apple", [True, True, False])
    expected = without.clone()
    expected[2] = empty[2]
    torch.testing.assert_close(context("a (red)0 apple", "compel"), expected, atol=1e-3, rtol=1e-3)


def test_modes_differ(context: Callable[..., Tensor]) -> None:
    made = [context("a (red:1.4) apple", mode) for mode in ("a1111", "a1111_no_norm", "comfy")]
    made.append(context("a (red)1.4 apple", "compel"))
    pairs = [(one, other) for i, one in enumerate(made) for other in made[i + 1 :]]
    # Above 1 compel does as ComfyUI does.
    assert [torch.allclose(one, other) for one, other in pairs] == [False] * 5 + [True]


@pytest.mark.parametrize("emphasis", MODES)
def test_weights_in_half_precision_stay_finite(encoder: CLIPTextEncoder, emphasis: Emphasis) -> None:
    text = "(a red:1.4) (apple:0.3)" if emphasis != "compel" else "(a red)1.4 (apple)0.3"
    half = encoder.to(torch.bfloat16)
    try:
        windows = read_windows(text, emphasis, CLIP).windows
        made = weighted_context(
            windows, empty_window(CLIP), emphasis, lambda ids, seen: half(ids, seen=seen), CPU
        ).hidden
    finally:
        encoder.to(torch.float32)
    assert made.dtype == torch.bfloat16
    assert torch.isfinite(made).all()


def test_all_weights_of_0_are_no_division_by_nothing(context: Callable[..., Tensor]) -> None:
    assert torch.isfinite(context("(a red apple:0)", "a1111")).all()
