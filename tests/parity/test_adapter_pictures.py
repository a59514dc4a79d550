"""Adapters change pictures as they change diffusers'."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import sfumato

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")

RUN = {"prompt": "a red apple", "num_inference_steps": 3, "output_type": "np"}


@pytest.fixture
def pipes(tiny_folder: Path) -> tuple[Any, sfumato.StableDiffusionPipeline]:
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    ours = sfumato.StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
    return theirs, ours


def picture(pipe: Any, **options: Any) -> np.ndarray:
    return pipe(**(RUN | options), generator=torch.Generator().manual_seed(3)).images


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(got - expected) * 255
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return (
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and not isinstance(module, nn.Embedding)
    )


def pair(layer: nn.Module, g: torch.Generator, rank: int = 4) -> tuple[Tensor, Tensor]:
    out, into, *kernel = layer.weight.shape
    return (
        torch.randn(rank, into, *kernel, generator=g) * 0.3,
        torch.randn(out, rank, *[1] * len(kernel), generator=g) * 0.3,
    )


def kohya(pipe: Any, seed: int, *, convolutions: bool = True, alpha: float | None = 2.0) -> dict[str, Tensor]:
    g, tensors = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    text = pipe.text_encoder
    # transformers 5 leaves out what kohya's scripts, of their time, have in every name.
    prefix = "" if hasattr(text, "text_model") else "text_model_"
    for start, network in (("lora_unet_", pipe.unet), (f"lora_te_{prefix}", text)):
        for name, layer in layers(network):
            if isinstance(layer, nn.Conv2d) and not convolutions:
                continue
            key = start + name.replace(".", "_")
            down, up = pair(layer, g)
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
            if alpha is not None:
                tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors


def current(pipe: Any, seed: int, networks: tuple[str, ...] = ("unet", "text_encoder")) -> dict[str, Tensor]:
    g, tensors = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for network in networks:
        for name, layer in layers(getattr(pipe, network)):
            if any(part in name for part in ("to_q", "to_k", "to_v", "to_out", "self_attn", "mlp", "ff.")):
                down, up = pair(layer, g)
                tensors |= {f"{network}.{name}.lora_A.weight": down, f"{network}.{name}.lora_B.weight": up}
    return tensors


def old(pipe: Any, seed: int) -> dict[str, Tensor]:
    """The dialect of diffusers 0.16: attention only, in processors, and no alpha."""
    g, tensors = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for name, layer in layers(pipe.unet):
        for projection in ("to_q", "to_k", "to_v", "to_out.0"):
            if "attn" in name and name.endswith(projection):
                key = name.removesuffix(f".{projection}") + f".processor.{projection.removesuffix('.0')}_lora"
                down, up = pair(layer, g)
                tensors |= {f"unet.{key}.down.weight": down, f"unet.{key}.up.weight": up}
    return tensors


@pytest.mark.parametrize("dialect", [kohya, current, old])
def test_a_lora_changes_the_picture_as_diffusers_changes_it(pipes: Any, tmp_path: Path, dialect: Any) -> None:
    theirs, ours = pipes
    plain = picture(ours)
    save_file(dialect(theirs, 1), tmp_path / "lora.safetensors")
    theirs.load_lora_weights(tmp_path / "lora.safetensors")
    report = ours.load_lora_weights(tmp_path / "lora.safetensors")
    assert report.unmatched == ()
    expected = picture(theirs)
    assert np.abs(expected - plain).mean() * 255 > 2
    assert_same(picture(ours), expected)
    for scale in (0.4, 0.0, -1.0):
        scaled = {"cross_attention_kwargs": {"scale": scale}}
        assert_same(picture(ours, **scaled), picture(theirs, **scaled))


def test_several_at_once_with_weights_and_switched(pipes: Any, tmp_path: Path) -> None:
    theirs, ours = pipes
    tensors = {"a": kohya(theirs, 1), "b": current(theirs, 2)}
    for name, adapter in tensors.items():
        save_file(adapter, tmp_path / f"{name}.safetensors")
        for pipe in pipes:
            pipe.load_lora_weights(tmp_path / f"{name}.safetensors", adapter_name=name)
    assert ours.get_active_adapters() == theirs.get_active_adapters() == ["b"]
    assert ours.get_list_adapters() == theirs.get_list_adapters()
    choices: list[tuple[Any, Any]] = [
        ("a", None), (["a", "b"], None), (["a", "b"], [0.5, -0.7]), (["a", "b"], 0.3),
        (["b", "a"], [{"unet": 0.6, "text_encoder": 0.2}, 1.0]),
    ]  # fmt: skip
    for names, weights in choices:
        for pipe in pipes:
            pipe.set_adapters(names, weights)
        assert ours.get_active_adapters() == theirs.get_active_adapters()
        assert_same(picture(ours), picture(theirs))
    for pipe in pipes:
        pipe.disable_lora()
    plain = picture(ours)
    assert_same(plain, picture(theirs))
    for pipe in pipes:
        pipe.enable_lora()
        pipe.set_adapters(["a", "b"])
        pipe.delete_adapters("a")
    assert_same(picture(ours), picture(theirs))
    ours.unload_lora_weights()
    assert np.array_equal(picture(ours), plain)


def test_merging_as_diffusers_merges(pipes: Any, tmp_path: Path) -> None:
    theirs, ours = pipes
    plain = picture(ours)
    save_file(kohya(theirs, 1), tmp_path / "lora.safetensors")
    for pipe in pipes:
        pipe.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="a")
    beside = picture(ours)
    for pipe in pipes:
        pipe.fuse_lora(lora_scale=0.7)
    assert_same(picture(ours), picture(theirs))
    assert ours.num_fused_loras == theirs.num_fused_loras == 1
    assert ours.fused_loras == {"a"}
    # In diffusers the scale of merging stays with the adapter when it is unmerged; here unmerging undoes merging.
    ours.unfuse_lora()
    assert np.array_equal(picture(ours), beside)
    ours.unload_lora_weights()
    assert np.array_equal(picture(ours), plain)


def test_encode_prompt_takes_the_adapters_scale(pipes: Any, tmp_path: Path) -> None:
    theirs, ours = pipes
    save_file(current(theirs, 1, ("text_encoder",)), tmp_path / "lora.safetensors")
    for pipe in pipes:
        pipe.load_lora_weights(tmp_path / "lora.safetensors")
    for scale in (None, 0.5):
        expected, _ = theirs.encode_prompt("a fox", "cpu", 1, False, lora_scale=scale)
        got, _ = ours.encode_prompt("a fox", "cpu", 1, False, lora_scale=scale)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


# -- textual inversion -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("kind", ["diffusers", "A1111"])
def test_an_embedding_changes_the_picture_as_diffusers_changes_it(
    pipes: Any, tmp_path: Path, vectors: int, kind: str
) -> None:
    theirs, ours = pipes
    rows = torch.randn(vectors, 32, generator=torch.Generator().manual_seed(1))
    if kind == "diffusers":
        path = tmp_path / "learned_embeds.bin"
        torch.save({"<zorp-style>": rows if vectors > 1 else rows[0]}, path)
        word = "<zorp-style>"
    else:
        path = tmp_path / "zorp.pt"
        torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": rows}, "name": "zorpish", "step": 1}, path)
        word = "zorpish"
    plain = picture(ours, prompt=f"a cat, {word}")
    theirs.load_textual_inversion(path)
    assert ours.load_textual_inversion(path) == [word]
    prompts = {"prompt": [f"a cat, {word} on a {word} hat", "a red apple"], "negative_prompt": [word, ""]}
    assert_same(picture(ours, **prompts), picture(theirs, **prompts))
    assert not np.array_equal(picture(ours, prompt=f"a cat, {word}"), plain)
    ours.unload_textual_inversion()
    assert np.array_equal(picture(ours, prompt=f"a cat, {word}"), plain)


def test_a_model_saved_with_an_embedding_opens_in_diffusers(pipes: Any, tmp_path: Path) -> None:
    _, ours = pipes
    rows = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    ours.load_textual_inversion({"<zorp>": rows})
    expected = picture(ours, prompt="a <zorp> cat")
    ours.save_pretrained(tmp_path / "saved")
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "saved", safety_checker=None)
    again.set_progress_bar_config(disable=True)
    assert_same(picture(again, prompt="a <zorp> cat"), expected)
    mine = sfumato.StableDiffusionPipeline.from_pretrained(tmp_path / "saved", safety_checker=None)
    mine.set_progress_bar_config(disable=True)
    assert np.array_equal(picture(mine, prompt="a <zorp> cat"), expected)
