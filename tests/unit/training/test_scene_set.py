"""The scenes of a run are made once, kept, and made again only when they are not what was asked for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from sfumato.models import AutoencoderKL, VAEConfig
from sfumato.training import scene_set as module
from sfumato.training.data import read_dataset
from sfumato.training.data.scenes import COMPOSING, SceneMaker, SceneMix
from sfumato.training.latents import encode
from sfumato.training.scene_set import SceneSet, compose_scenes, scene_set

from .conftest import say_nothing


@pytest.fixture
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(VAEConfig(channels=(8, 8, 8), blocks_per_level=1, norm_groups=4)).eval()


@pytest.fixture
def maker(toy_data: Path) -> SceneMaker:
    return SceneMaker(read_dataset(toy_data), seed=3)


def same(one: SceneSet, other: SceneSet) -> bool:
    return torch.equal(one.latents, other.latents) and one.captions == other.captions


def test_scenes_are_encoded_with_their_own_captions(vae, maker, monkeypatch):
    monkeypatch.setattr(module, "_PART", 3)
    made = scene_set(vae, maker, 7, 2, None, say_nothing)
    assert made.latents.shape == (7, 4, 4, 4)
    assert made.latents.dtype == torch.float16
    for number in range(7):
        chance = maker.chance(number)
        scene = maker.compose(chance)
        assert made.captions[number] == scene.captions(2, chance)
        alone = encode(vae, torch.from_numpy(scene.pixels.copy()[None])).half()
        torch.testing.assert_close(made.latents[number], alone[0], atol=2e-3, rtol=1e-2)


def test_a_picture_that_comes_again_is_encoded_once(vae, toy_data, monkeypatch):
    plain = SceneMaker(read_dataset(toy_data), SceneMix(plain=1, coloured=0, grounded=0, two=0, placed=0), seed=3)
    encoded: list[int] = []

    def counted(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
        encoded.append(len(pictures))
        return encode(vae, pictures)

    monkeypatch.setattr(module, "_PART", 5)
    monkeypatch.setattr(module, "encode", counted)
    made = scene_set(vae, plain, 40, 1, None, say_nothing)
    pictures = np.stack([scene.pixels for scene in plain.scenes(0, 40)])
    assert sum(encoded) == len(np.unique(pictures, axis=0)) < 40
    alone = encode(vae, torch.from_numpy(pictures)).half()
    torch.testing.assert_close(made.latents, alone, atol=2e-3, rtol=1e-2)


def test_halves_are_the_same_pictures_at_half_their_side(vae, maker, tmp_path, monkeypatch):
    made = scene_set(vae, maker, 5, 2, tmp_path, say_nothing, halved=True)
    assert made.halves is not None
    assert made.halves.shape == (5, 4, 2, 2)
    pixels = next(maker.scenes(2, 1)).pixels.astype(np.float32)
    small = pixels.reshape(8, 2, 8, 2, 3).mean((1, 3)).round().astype(np.uint8)
    torch.testing.assert_close(
        made.halves[2], encode(vae, torch.from_numpy(small[None])).half()[0], atol=2e-3, rtol=1e-2
    )

    whole = scene_set(vae, maker, 5, 2, None, say_nothing)
    assert whole.halves is None
    assert same(made, whole)

    monkeypatch.setattr(SceneMaker, "compose", lambda *_: pytest.fail("composed again"))
    kept = scene_set(vae, maker, 5, 2, tmp_path, say_nothing, halved=True)
    assert kept.halves is not None
    assert torch.equal(kept.halves, made.halves)


def test_scenes_kept_without_halves_are_made_again_for_a_run_that_wants_them(vae, maker, tmp_path):
    scene_set(vae, maker, 5, 2, tmp_path, say_nothing)
    assert scene_set(vae, maker, 5, 2, tmp_path, say_nothing, halved=True).halves is not None


def test_scenes_that_were_composed_before_are_encoded(vae, maker):
    parts = list(compose_scenes(maker, 5, 2, 0, say_nothing))
    assert same(
        scene_set(vae, maker, 5, 2, None, say_nothing, composed=parts), scene_set(vae, maker, 5, 2, None, say_nothing)
    )


def test_kept_scenes_are_not_made_again(vae, maker, tmp_path, monkeypatch):
    made = scene_set(vae, maker, 5, 2, tmp_path, say_nothing)
    monkeypatch.setattr(SceneMaker, "compose", lambda *_: pytest.fail("composed again"))
    assert same(scene_set(vae, maker, 5, 2, tmp_path, say_nothing), made)


def test_scenes_of_anything_else_are_made_again(vae, maker, tmp_path):
    first = scene_set(vae, maker, 5, 2, tmp_path, say_nothing)
    other_vae = AutoencoderKL(vae.config).eval()
    other_art = replace(maker.data, pixels=255 - maker.data.pixels)
    for network, scenes, count, captions in (
        (other_vae, maker, 5, 2),
        (vae, SceneMaker(maker.data, seed=4), 5, 2),
        (vae, SceneMaker(maker.data, SceneMix(plain=1), seed=3), 5, 2),
        (vae, SceneMaker(other_art, seed=3), 5, 2),
        (vae, maker, 6, 2),
        (vae, maker, 5, 3),
    ):
        made = scene_set(network, scenes, count, captions, tmp_path, say_nothing)
        assert not same(made, first)
        assert same(made, scene_set(network, scenes, count, captions, None, say_nothing))
    assert same(scene_set(vae, maker, 5, 2, tmp_path, say_nothing), first)


def test_scenes_that_another_version_composed_are_made_again(vae, maker, tmp_path, monkeypatch):
    scene_set(vae, maker, 5, 2, tmp_path, say_nothing)
    monkeypatch.setattr("sfumato.training.scene_set.COMPOSING", COMPOSING + 1)
    composed = []
    monkeypatch.setattr(
        SceneMaker, "compose", lambda *given, plain=SceneMaker.compose: composed.append(0) or plain(*given)
    )
    scene_set(vae, maker, 5, 2, tmp_path, say_nothing)
    assert len(composed) == 5


def test_damaged_scenes_are_made_again(vae, maker, tmp_path):
    made = scene_set(vae, maker, 5, 2, tmp_path, say_nothing)
    (file,) = tmp_path.glob("scenes*")
    whole = file.read_bytes()
    for damaged in (b"", whole[:-7], b"not a file of tensors", whole.replace(b"captions", b"copyings")):
        file.write_bytes(damaged)
        assert same(scene_set(vae, maker, 5, 2, tmp_path, say_nothing), made)
        assert file.read_bytes() == whole


def test_scenes_of_the_first_runs_are_read(vae, maker, tmp_path, monkeypatch):
    made = scene_set(vae, maker, 5, 2, tmp_path, say_nothing)
    with safe_open(tmp_path / "scenes.safetensors", framework="pt") as file:
        metadata = {"key": file.metadata()["key"], "captions": json.dumps(made.captions)}
    (tmp_path / "scenes.safetensors").write_bytes(save({"latents": made.latents}, metadata=metadata))
    monkeypatch.setattr(SceneMaker, "compose", lambda *_: pytest.fail("composed again"))
    assert same(scene_set(vae, maker, 5, 2, tmp_path, say_nothing), made)


def test_progress_is_told(vae, maker, monkeypatch):
    monkeypatch.setattr(module, "_PART", 2)
    told: list[str] = []
    scene_set(vae, maker, 50, 1, None, told.append)
    assert told[0] == "scenes 2/50"
    assert told[-1].endswith("/50")


def test_scenes_of_one_number_do_not_depend_on_how_many_there_are(vae, maker):
    few, many = (scene_set(vae, maker, count, 2, None, say_nothing) for count in (4, 6))
    assert many.captions[:4] == few.captions
    np.testing.assert_allclose(many.latents[:4], few.latents, atol=2e-3)
