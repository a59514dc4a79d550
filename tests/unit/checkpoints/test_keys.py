import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.checkpoints.configs import write_unet_config, write_vae_config
from sfumato.checkpoints.diffusers_layout import safety_keys, text_keys, unet_keys, vae_keys
from sfumato.checkpoints.keys import KeyMap, few, grouped, repeat, under
from sfumato.models import (
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextEncoder,
    SafetyChecker,
    SafetyCheckerConfig,
    UNet,
    UNetConfig,
    VAEConfig,
)


@st.composite
def unet_configs(draw: st.DrawFn) -> UNetConfig:
    levels = draw(st.integers(1, 4))

    def per_level(values: st.SearchStrategy) -> tuple:
        return tuple(draw(values) for _ in range(levels))

    return UNetConfig(
        channels=per_level(st.sampled_from([16, 32, 48])),
        blocks_per_level=draw(st.integers(1, 3)),
        attention=per_level(st.booleans()),
        heads=per_level(st.sampled_from([1, 2, 4])),
        depth=per_level(st.integers(1, 3)),
        context_dim=draw(st.sampled_from([8, 20])),
        linear_projection=draw(st.booleans()),
        norm_groups=8,
    )


@settings(max_examples=12, deadline=None)
@given(unet_configs())
def test_unet_names_and_shapes_are_diffusers(config: UNetConfig) -> None:
    with torch.device("meta"):
        ours = UNet(config).state_dict()
        theirs = diffusers.UNet2DConditionModel.from_config(write_unet_config(config)).state_dict()
    keys = unet_keys(config)
    assert {keys.to_theirs(key): tensor.shape for key, tensor in ours.items()} == {
        k: v.shape for k, v in theirs.items()
    }
    assert all(keys.to_ours(keys.to_theirs(key)) == key for key in ours)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([8, 16]), min_size=1, max_size=5), st.integers(1, 3), st.integers(1, 16))
def test_vae_names_and_shapes_are_diffusers(channels: list[int], blocks: int, latent_channels: int) -> None:
    config = VAEConfig(
        channels=tuple(channels), blocks_per_level=blocks, latent_channels=latent_channels, norm_groups=4
    )
    with torch.device("meta"):
        ours = AutoencoderKL(config).state_dict()
        theirs = diffusers.AutoencoderKL.from_config(write_vae_config(config)).state_dict()
    keys = vae_keys(config)
    assert {keys.to_theirs(key): tensor.shape for key, tensor in ours.items()} == {
        k: v.shape for k, v in theirs.items()
    }
    assert all(keys.to_ours(keys.to_theirs(key)) == key for key in ours)


@pytest.mark.parametrize("projection_dim", [None, 512])
def test_text_encoder_names_come_back(projection_dim: int | None) -> None:
    config = CLIPTextConfig(layers=2, projection_dim=projection_dim)
    with torch.device("meta"):
        names = CLIPTextEncoder(config).state_dict()
    keys = text_keys(config)
    assert all(keys.to_ours(keys.to_theirs(name)) == name for name in names)
    assert keys.to_ours("embeddings.token_embedding.weight") == "token_embedding.weight"
    assert keys.to_ours("text_model.embeddings.position_ids") is None


def test_safety_checker_names_come_back() -> None:
    with torch.device("meta"):
        names = SafetyChecker(SafetyCheckerConfig()).state_dict()
    keys = safety_keys(SafetyCheckerConfig())
    assert all(keys.to_ours(keys.to_theirs(name)) == name for name in names)
    assert keys.to_ours("vision_model.pre_layrnorm.bias") == "vision.norm_in.bias"


def test_tables_are_put_under_prefixes() -> None:
    assert under("a", "", (("b", "c"),)) == (("a.b", "c"),)
    assert repeat(2, "x.{}", "y.{}.z", (("b", "c"),)) == (("x.0.b", "y.0.z.c"), ("x.1.b", "y.1.z.c"))


def test_a_table_with_two_meanings_is_refused() -> None:
    with pytest.raises(AssertionError):
        KeyMap((("a", "x"), ("a", "y")))
    with pytest.raises(AssertionError):
        KeyMap((("a", "x"), ("b", "x")))


def test_unknown_names() -> None:
    keys = KeyMap((("a", "x"),))
    assert keys.to_ours("b.weight") is None
    assert keys.to_ours("a.b.weight") is None
    with pytest.raises(KeyError):
        keys.to_theirs("y.weight")


def test_few_of_many_names() -> None:
    assert few(["b", "a"]) == "a, b"
    assert few(["a\nb"]) == r"'a\nb'"
    assert few(["d", "c", "b", "a", "e"]) == "a, b, c and 2 more"


def test_many_names_are_grouped_by_where_they_lie() -> None:
    assert grouped(["b", "a"]) == "a, b"
    names = [f"a.x.{i}.{end}" for i in range(4) for end in ("weight", "bias")] + [f"b.{i}" for i in range(3)]
    assert grouped(names) == "8 in a.x, 3 in b; the first is a.x.0.bias"
    assert grouped([f"{letter}.x" for letter in "abcde"] * 1) == "1 in a, 1 in b, 1 in c, 2 elsewhere; the first is a.x"
    assert grouped(["x"] * 4) == "4 in x; the first is x"
    assert "'a\\nb'" in grouped([f"a\nb.{i}" for i in range(5)])
