"""What each program wrote, read into the same words; and what is not carried over, named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_metadata import A1111, INVOKE, INVOKE_OLD, NOVELAI, comfy, hide, node, png, write_bits
from PIL import ExifTags, Image

from sfumato.errors import ImageError, MetadataError
from sfumato.metadata import NamedLora, Settings, find_settings, read_settings
from sfumato.metadata.a1111 import read_a1111
from sfumato.metadata.comfyui import read_comfyui
from sfumato.metadata.invokeai import read_invokeai, read_old_invokeai
from sfumato.metadata.novelai import read_novelai
from sfumato.metadata.stealth import hidden_text


def bare(settings: Settings) -> Settings:
    return replace(settings, omissions=())


def omitted(settings: Settings) -> dict[str, str]:
    return {one.name: one.value for one in settings.omissions}


def test_the_web_ui_s_text() -> None:
    settings = read_a1111(A1111)
    assert bare(settings) == Settings(
        program="AUTOMATIC1111",
        version="v1.10.1",
        prompt='portrait of a cat, (detailed:1.2)  \nsecond line, "quoted"',
        negative_prompt="blurry, low quality\nworst: yes",
        seed=3141592653,
        steps=28,
        guidance_scale=6.5,
        sampler="DPM++ 2M",
        schedule="karras",
        sampling={"eta": 0.67},
        width=512,
        height=768,
        clip_skip=1,
        rng="nv",
        subseed=2718,
        subseed_strength=0.15,
        seed_resize=(512, 512),
        eta_noise_seed_delta=31337,
        model="v1-5-pruned-emaonly",
        model_hash="cc6cb27103",
        loras=(
            NamedLora(name="inkStyle", weight=0.8, text_weight=0.8, hash="9f3a7c0b1d2e"),
            NamedLora(name="eyes", weight=0.25, text_weight=0.5, hash="0a1b2c3d4e5f"),
        ),
    )
    assert omitted(settings) == {
        "VAE hash": "735e4c3a44",
        "VAE": "vae-ft-mse.safetensors",
        "Denoising strength": "0.4",
        "Hires upscale": "2",
        "Hires steps": "10",
        "Hires upscaler": "Latent",
        "TI hashes": "easynegative: c74b4e810b03",
        "NGMS": "0.5",
    }
    assert all(one.why for one in settings.omissions)


LINE = "cat\nSteps: 20, Sampler: {}, CFG scale: 7, Seed: 1, Size: 64x64"


@pytest.mark.parametrize(
    ("words", "sampler", "schedule"),
    [
        ("Euler a", "Euler a", "uniform"),  # before 1.9 there was no automatic choice
        ("DPM++ 2M", "DPM++ 2M", "uniform"),
        ("DPM++ 2M Karras", "DPM++ 2M", "karras"),
        ("DPM++ 2M SDE Exponential", "DPM++ 2M SDE", "exponential"),
        ("DDIM", "DDIM", "ddim"),
        ("DPM++ 2M, Schedule type: Automatic", "DPM++ 2M", "karras"),
        ("DPM++ 3M SDE, Schedule type: Automatic", "DPM++ 3M SDE", "exponential"),
        ("Euler, Schedule type: SGM Uniform", "Euler", "sgm_uniform"),
        ("DPM++ 2M, Version: v1.9.4", "DPM++ 2M", "karras"),
        ("DPM++ 2M, Version: v1.8.0", "DPM++ 2M", "uniform"),
        ("Euler, Schedule type: Align Your Steps", "Euler", "align_your_steps"),
    ],
)
def test_the_web_ui_s_samplers(words: str, sampler: str, schedule: str) -> None:
    settings = read_a1111(LINE.format(words))
    assert (settings.sampler, settings.schedule) == (sampler, schedule)
    assert settings.omissions == ()


@pytest.mark.parametrize(
    ("said", "rng"), [("", "nv"), (", RNG: CPU", "cpu"), (", RNG: NV", "nv"), (", RNG: GPU", "nv")]
)
def test_the_web_ui_s_noise(said: str, rng: str) -> None:
    assert read_a1111(LINE.format("Euler") + said).rng == rng


@pytest.mark.parametrize(
    ("said", "emphasis", "named"),
    [
        ("", "a1111", []),
        (", Emphasis: Original", "a1111", []),
        (", Emphasis: No norm", "a1111_no_norm", []),
        (", Emphasis: Ignore", "a1111", ["Emphasis"]),
        (", Emphasis: None", "none", []),
        (", Emphasis: sideways", "a1111", ["Emphasis"]),
    ],
)
def test_how_the_web_ui_weighs_words(said: str, emphasis: str, named: list[str]) -> None:
    settings = read_a1111(f"a (red:1.2) fox\nSteps: 4, Sampler: Euler, Seed: 1{said}, Version: v1.10.1")
    assert settings.emphasis == emphasis
    assert list(omitted(settings)) == named


def test_without_weights_the_web_ui_s_ways_of_weighing_are_one() -> None:
    for way in ("None", "Ignore"):
        plain = read_a1111(f"a red fox AND a cat\nSteps: 4, Sampler: Euler, Seed: 1, Emphasis: {way}")
        assert (plain.emphasis, omitted(plain)) == ("a1111", {})
    for prompt in ("a (fox) AND a cat", "(a) BREAK b", "a [fox:cat:0.5]"):  # which are read there, weights or none
        said = read_a1111(f"{prompt}\nSteps: 4, Sampler: Euler, Seed: 1, Emphasis: None")
        assert (said.emphasis, omitted(said)) == ("a1111", {"Emphasis": "None"})


def test_the_web_ui_s_guidance() -> None:
    line = "a fox\nSteps: 20, Sampler: Euler, Seed: 1, {}, Version: v1.10.1"
    settings = read_a1111(
        line.format('CFG Rescale: 0.7, PAG scale: 3, PAG adaptive: 0, FreeU: "s1 0.9, s2 0.2, b1 1.2, b2 1.4"')
    )
    freeu = {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4}
    assert settings.guidance == {"guidance_rescale": 0.7, "pag_scale": 3.0, "freeu": freeu}
    assert settings.omissions == ()
    # It guides no step up to and with the one that begins at the share.
    assert read_a1111(line.format("Skip Early CFG: 0.2")).guidance == {"guidance_interval": [0.2001, 1.0]}
    assert read_a1111(line.format("Skip Early CFG: 0")).guidance == {}
    for wrong in ("Skip Early CFG: 1", "CFG Rescale: 2", "PAG scale: much", "FreeU: v2"):
        settings = read_a1111(line.format(wrong))
        assert (settings.guidance, list(omitted(settings))) == ({}, [wrong.partition(":")[0]])


@pytest.mark.parametrize(
    ("said", "seamless", "left"), [("True", True, {}), ("False", False, {}), ("x", False, {"Tiling": "x"})]
)
def test_the_web_ui_s_tiling(said: str, seamless: bool, left: dict[str, str]) -> None:
    settings = read_a1111(f"a fox\nSteps: 4, Sampler: Euler, Seed: 1, Tiling: {said}, Version: v1.10.1")
    assert (settings.seamless, omitted(settings)) == (seamless, left)


def test_values_that_can_t_be_are_named() -> None:
    settings = read_a1111(
        "cat\nSteps: many, Sampler: DDIM, CFG scale: nan, Seed: -1, Size: 0x9999999999, Clip skip: x, RNG: dice, ENSD: 1.5, "
        "Variation seed: no, Variation seed strength: 0.5, Seed resize from: 0x0, Eta DDIM: 7"
    )
    assert bare(settings) == Settings(
        program="AUTOMATIC1111", prompt="cat", sampler="DDIM", schedule="ddim", rng="cpu", negative_prompt=""
    )
    assert omitted(settings) == {
        "Steps": "many", "CFG scale": "nan", "Seed": "-1", "Size": "9999999999", "Clip skip": "x", "RNG": "dice", "ENSD": "1.5",
        "Variation seed": "no", "Eta DDIM": "7",
    }  # fmt: skip
    assert read_a1111(LINE.format("DDIM") + ", Eta DDIM: 0.5").eta == 0.5


def test_comfyui_s_first_graph() -> None:
    assert read_comfyui(json.dumps(comfy())) == Settings(
        program="ComfyUI",
        prompt="a galaxy in a bottle",
        negative_prompt="text, watermark",
        emphasis="comfy",
        seed=156680208700286,
        steps=20,
        guidance_scale=8.0,
        sampler="DPM++ 2M",
        schedule="karras",
        width=512,
        height=640,
        model="v1-5-pruned-emaonly",
    )


def test_comfyui_s_links_are_followed() -> None:
    graph = comfy(
        n3={"model": ["11", 0], "seed": ["20", 0], "positive": ["30", 0]}, n6={"clip": ["12", 0], "text": ["21", 0]}
    )
    graph |= {
        "10": node("LoraLoader", lora_name="ink.safetensors", strength_model=0.8, strength_clip=0.6, model=["4", 0], clip=["4", 1]),
        "11": node("LoraLoaderModelOnly", lora_name="sub/eyes.pt", strength_model=0.5, model=["10", 0]),
        "12": node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["10", 1]),
        "20": node("PrimitiveInt", value=77),
        "21": node("StringNode", string="from afar"),
        "30": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["7", 0]),
        "40": node("LoadImage", image="x.png"),
    }  # fmt: skip
    settings = read_comfyui(json.dumps(graph))
    assert (settings.seed, settings.prompt, settings.clip_skip) == (77, "from afar", 1)
    assert settings.loras == (
        NamedLora(name="ink", weight=0.8, text_weight=0.6),
        NamedLora(name="eyes", weight=0.5, text_weight=0.0),
    )
    assert omitted(settings) == {"node 30": "ConditioningCombine", "node 20": "PrimitiveInt", "node 40": "LoadImage"}


def test_comfyui_s_first_pass_is_taken() -> None:
    graph = comfy(n8={"samples": ["13", 0]})
    graph["12"] = node("LatentUpscale", width=1024, height=1024, samples=["3", 0])
    graph["13"] = node(
        "KSamplerAdvanced", noise_seed=5, steps=9, cfg=3.0, sampler_name="euler", scheduler="normal", start_at_step=4,
        end_at_step=9, model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["12", 0],
    )  # fmt: skip
    settings = read_comfyui(json.dumps(graph))
    assert (settings.seed, settings.width) == (156680208700286, 512)
    assert omitted(settings) == {"node 13": "KSamplerAdvanced", "node 12": "LatentUpscale"}
    graph["13"]["inputs"]["latent_image"] = ["5", 0]
    settings = read_comfyui(json.dumps(graph))
    assert (settings.seed, settings.sampler, settings.schedule) == (5, "Euler", "normal")
    assert omitted(settings) == {"start_at_step": "4", "node 3": "KSampler", "node 12": "LatentUpscale"}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"n3": {"denoise": 0.5}}, {"denoise"}),
        ({"n3": {"sampler_name": "euler_ancestral"}}, {"noise of later steps"}),
        ({"n3": {"sampler_name": "new"}}, {"sampler_name"}),
        ({"n3": {"scheduler": ["6", 1]}}, {"scheduler"}),
        ({"n5": {"batch_size": 4}}, {"batch_size"}),
        ({"n3": {"latent_image": ["99", 0]}}, {"latent_image", "node 5"}),
        ({"n3": {"positive": "a cat"}}, {"positive", "node 6"}),
        ({"n3": {"model": ["99", 0]}}, {"model", "node 4"}),
        ({"n6": {"text": 7}}, {"text", "positive"}),
        ({"n4": {"ckpt_name": None}}, {"ckpt_name", "model"}),
        ({"n3": {"seed": "x", "steps": 1.5, "cfg": True}}, {"seed", "steps", "cfg"}),
    ],
)
def test_comfyui_s_odd_graphs_are_named(changes: dict[str, Any], names: set[str]) -> None:
    assert omitted(read_comfyui(json.dumps(comfy(**changes)))).keys() <= names


@pytest.mark.parametrize(
    "inputs", [{"latent_image": ["3", 0]}, {"model": ["3", 0], "seed": ["3", 0]}, {"positive": ["3", 0]}]
)
def test_circles_end(inputs: dict[str, Any]) -> None:
    assert read_comfyui(json.dumps(comfy(n3=inputs))).steps == 20


def test_invokeai() -> None:
    settings = read_invokeai(json.dumps(INVOKE))
    assert bare(settings) == Settings(
        program="InvokeAI",
        version="3.3.0post3",
        prompt="landscape, oil++",
        negative_prompt="low quality",
        emphasis="compel",
        seed=356120443,
        steps=50,
        guidance_scale=7.5,
        guidance={"guidance_rescale": 0.7},
        sampler="DPM++ 2M",
        schedule="karras",
        width=768,
        height=432,
        clip_skip=1,
        model="amixx_3Prunedfp16",
        loras=(NamedLora(name="ink", weight=0.75, text_weight=0.75),),
    )
    assert omitted(settings).keys() == {"vae"}
    changed = INVOKE | {"rand_device": "cuda", "scheduler": "euler_a", "generation_mode": "img2img", "strength": 0.6}
    settings = read_invokeai(json.dumps(changed))
    assert (settings.rng, settings.sampler, settings.schedule) == ("nv", "Euler a", None)
    assert omitted(settings).keys() >= {"noise of later steps", "generation_mode", "strength"}


def test_invokeai_of_old() -> None:
    settings = read_old_invokeai(json.dumps(INVOKE_OLD))
    assert (settings.prompt, settings.negative_prompt) == ("a red apple on a table", "blurry text")
    assert (settings.seed, settings.steps, settings.sampler, settings.width) == (42, 30, "Euler a", 576)
    assert settings.rng == "nv"
    assert (settings.model, settings.model_hash) == ("stable-diffusion-1.5", "cc6cb27103417325ff94f52b7a5d2dde")
    assert omitted(settings).keys() == {"noise of later steps", "perlin"}


def test_novelai() -> None:
    settings = read_novelai(NOVELAI)
    assert bare(settings) == Settings(
        program="NovelAI",
        prompt="{best quality}, a cat",
        negative_prompt="lowres, text",
        emphasis="novelai",
        seed=2870305590,
        steps=28,
        guidance_scale=11.0,
        sampler="Euler a",
        schedule="uniform",
        clip_skip=1,
        rng="nv",
        eta_noise_seed_delta=31337,
        model="Stable Diffusion 1D44365E",
    )
    assert omitted(settings).keys() == {"strength", "noise"}


def test_the_picture_s_texts(tmp_path: Path) -> None:
    """Each program's picture is known by what is in it; a size that is not told is the picture's."""
    written = {
        "AUTOMATIC1111": {"parameters": A1111},
        "ComfyUI": {"prompt": json.dumps(comfy()), "workflow": "{}", "parameters": A1111},
        "InvokeAI": {"invokeai_metadata": json.dumps(INVOKE)},
        "NovelAI": NOVELAI,
    }
    for program, chunks in written.items():
        assert read_settings(png(tmp_path / "a.png", **chunks)).program == program
    assert read_settings(png(tmp_path / "a.png", sd_metadata=json.dumps(INVOKE_OLD))).seed == 42
    settings = read_settings(png(tmp_path / "a.png", **NOVELAI))
    assert (settings.width, settings.height) == (64, 48)
    broken = png(tmp_path / "a.png", prompt="a cat", parameters=A1111)
    assert read_settings(broken).program == "AUTOMATIC1111", "another node may have left a text of the same name"


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + A1111.encode("utf-16-be"),
        b"UNICODE\0" + A1111.encode("utf-16-le"),
        b"UNICODE\0" + A1111.encode("utf-16"),
        b"ASCII\0\0\0" + A1111.encode(),
        A1111.encode(),
    ],
)
def test_exif_comments(tmp_path: Path, suffix: str, comment: bytes) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    Image.new("RGB", (8, 8)).save(tmp_path / f"a{suffix}", exif=exif)
    assert read_settings(tmp_path / f"a{suffix}") == read_a1111(A1111)


def test_comfyui_s_webp(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "prompt:" + json.dumps(comfy())
    exif[ExifTags.Base.Make] = "workflow:{}"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", exif=exif)
    assert read_settings(tmp_path / "a.webp").model == "v1-5-pruned-emaonly"


NOISY = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 4), dtype=np.uint8))


@pytest.mark.parametrize("bands", ["A", "RGB"])
@pytest.mark.parametrize("compressed", [True, False])
def test_texts_in_the_pixels(tmp_path: Path, bands: str, compressed: bool) -> None:
    text = A1111[:200] + A1111[A1111.index("\nSteps") : A1111.index(", Model hash")]
    png(tmp_path / "a.png", image=hide(NOISY, text, bands=bands, compressed=compressed))
    assert read_settings(tmp_path / "a.png").seed == 3141592653
    image = hide(NOISY, json.dumps(NOVELAI), bands=bands)
    png(tmp_path / "a.png", image=image)
    assert read_settings(tmp_path / "a.png").program == "NovelAI"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"stealth_pngcomp",
        b"stealth_pngcomp" + (2**32 - 8).to_bytes(4, "big"),
        b"stealth_pngcomp" + (80).to_bytes(4, "big") + b"no gzip!!!",
        b"stealth_pngcomp" + (81).to_bytes(4, "big") + b"x" * 20,
        b"stealth_rgbinfo" + (80).to_bytes(4, "big") + b"0123456789",
        b"stealth_pnginfo" + (0).to_bytes(4, "big"),
    ],
)
def test_damaged_texts_in_the_pixels_are_none(tmp_path: Path, content: bytes) -> None:
    image = write_bits(NOISY, content, "A")
    assert hidden_text(image) is None
    png(tmp_path / "a.png", image=image)
    assert find_settings(tmp_path / "a.png") is None


def test_a_bomb_in_the_pixels_is_read_to_a_limit() -> None:
    image = hide(NOISY.resize((400, 400)), "a" * 12_000_000)
    assert len(hidden_text(image) or "") == 8_000_000


@pytest.mark.parametrize(
    "chunks",
    [
        {"invokeai_metadata": "{"},
        {"invokeai_metadata": "[" * 100_000},
        {"invokeai_metadata": "9" * 10_000},
        {"sd_metadata": "{}"},
        {"sd_metadata": '{"image": []}'},
        {"prompt": "null"},
        {"prompt": "{}"},
        {"prompt": '{"3": {"class_type": "SamplerCustom", "inputs": {}}}'},
        {"Software": "NovelAI", "Comment": "[]"},
        {"Software": "NovelAI", "Comment": "{}"},
        {"parameters": "only words"},
        {"parameters": '{"sui_image_params": {}}'},
    ],
)
def test_damaged_metadata_is_an_error(tmp_path: Path, chunks: dict[str, str]) -> None:
    path = png(tmp_path / "a.png", **chunks)
    with pytest.raises(MetadataError) as caught:
        read_settings(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_nothing_and_no_picture(tmp_path: Path) -> None:
    assert find_settings(png(tmp_path / "a.png", Comment="made with love")) is None
    with pytest.raises(MetadataError, match="holds no settings"):
        read_settings(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        read_settings(tmp_path / "b.png")
