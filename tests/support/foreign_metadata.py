"""What other programs write into their pictures, as their documents and sources have it: for several tests."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

A1111 = (
    'portrait of a cat, (detailed:1.2) <lora:inkStyle:0.8> <lora:eyes:0.5:0.25>\nsecond line, "quoted"\n'
    "Negative prompt: blurry, low quality\nworst: yes\n"
    "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 3141592653, Size: 512x768, "
    'Model hash: cc6cb27103, Model: v1-5-pruned-emaonly, VAE hash: 735e4c3a44, VAE: vae-ft-mse.safetensors, '
    "Variation seed: 2718, Variation seed strength: 0.15, Seed resize from: 512x512, Denoising strength: 0.4, Clip skip: 2, "
    'ENSD: 31337, RNG: NV, Hires upscale: 2, Hires steps: 10, Hires upscaler: Latent, Lora hashes: "inkStyle: 9f3a7c0b1d2e, eyes: 0a1b2c3d4e5f", '
    'TI hashes: "easynegative: c74b4e810b03", Eta: 0.67, NGMS: 0.5, Version: v1.10.1'
)  # fmt: skip


def comfy(**changes: dict[str, Any]) -> dict[str, Any]:
    """The graph that ComfyUI begins with, with other inputs for some nodes."""
    graph: dict[str, Any] = {
        "3": ("KSampler", {"seed": 156680208700286, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "SD1.5\\v1-5-pruned-emaonly.ckpt"}),
        "5": ("EmptyLatentImage", {"width": 512, "height": 640, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "a galaxy in a bottle", "clip": ["4", 1]}),
        "7": ("CLIPTextEncode", {"text": "text, watermark", "clip": ["4", 1]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"filename_prefix": "ComfyUI", "images": ["8", 0]}),
    }  # fmt: skip
    nodes = {id_: {"class_type": kind, "inputs": dict(inputs)} for id_, (kind, inputs) in graph.items()}
    for id_, inputs in changes.items():
        nodes[id_.lstrip("n")]["inputs"] |= inputs
    return nodes


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


INVOKE = {
    "app_version": "3.3.0post3", "generation_mode": "txt2img", "positive_prompt": "landscape, oil++", "negative_prompt": "low quality",
    "width": 768, "height": 432, "seed": 356120443, "rand_device": "cpu", "cfg_scale": 7.5, "cfg_rescale_multiplier": 0.7, "steps": 50,
    "scheduler": "dpmpp_2m_k", "clip_skip": 1, "model": {"model_name": "amixx_3Prunedfp16", "base_model": "sd-1", "model_type": "main"},
    "controlnets": [], "ipAdapters": [], "loras": [{"lora": {"model_name": "ink", "base_model": "sd-1"}, "weight": 0.75}],
    "vae": {"model_name": "sd-vae-ft-mse", "base_model": "sd-1"},
}  # fmt: skip
INVOKE_OLD = {
    "model": "stable diffusion", "model_weights": "stable-diffusion-1.5", "model_hash": "cc6cb27103417325ff94f52b7a5d2dde",
    "app_id": "invoke-ai/InvokeAI", "app_version": "2.2.4",
    "image": {"prompt": [{"prompt": "a red apple [blurry] on a table [text]", "weight": 1.0}], "steps": 30, "cfg_scale": 7.0, "threshold": 0,
              "perlin": 0.1, "height": 512, "width": 576, "seed": 42, "seamless": False, "hires_fix": False, "type": "txt2img",
              "postprocessing": None, "sampler": "k_euler_a", "variations": []},
}  # fmt: skip
NOVELAI = {
    "Title": "AI generated image", "Description": "{best quality}, a cat", "Software": "NovelAI", "Source": "Stable Diffusion 1D44365E",
    "Generation time": "2.5", "Comment": json.dumps({
        "steps": 28, "sampler": "k_euler_ancestral", "seed": 2870305590, "strength": 0.69, "noise": 0.667, "scale": 11.0, "uc": "lowres, text",
    }),
}  # fmt: skip


def png(path: Path, size: tuple[int, int] = (64, 48), image: Image.Image | None = None, **chunks: str) -> Path:
    """A PNG with text chunks; an underscore in a name is a hyphen there where `sd_metadata` is meant."""
    info = PngInfo()
    for name, text in chunks.items():
        info.add_text(name.replace("sd_metadata", "sd-metadata"), text)
    (image or Image.new("RGB", size)).save(path, pnginfo=info)
    return path


def hide(image: Image.Image, text: str, *, bands: str = "A", compressed: bool = True) -> Image.Image:
    """A picture with a text in the lowest bits of some bands, bit by bit."""
    content = gzip.compress(text.encode()) if compressed else text.encode()
    sign = f"stealth_{'png' if bands == 'A' else 'rgb'}{'comp' if compressed else 'info'}"
    return write_bits(image, sign.encode() + (len(content) * 8).to_bytes(4, "big") + content, bands)


def write_bits(image: Image.Image, content: bytes, bands: str) -> Image.Image:
    pixels = np.array(image.convert("RGBA"))
    bits = [byte >> place & 1 for byte in content for place in range(7, -1, -1)]
    places = [(x, y, "RGBA".index(band)) for x in range(image.width) for y in range(image.height) for band in bands]
    assert len(bits) <= len(places), "the picture is too small"
    for bit, (x, y, band) in zip(bits, places, strict=False):
        pixels[y, x, band] = pixels[y, x, band] & 0xFE | bit
    return Image.fromarray(pixels if bands == "A" else pixels[..., :3])
