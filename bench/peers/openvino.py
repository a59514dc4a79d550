"""OpenVINO on the processor: the networks in float32, and the U-Net with weights and activations in int8.

The networks are converted once from diffusers' and kept in the cache. The int8 U-Net is calibrated on random inputs, which is as fast as
any and says nothing of its pictures.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker import GUIDANCE, Figures, Setting, Steps, serve, timed

TOKENS, CONTEXT, VOCABULARY = 77, 768, 49408
SIGMA = 14.6
"""Where the first step of a run stands."""


def place(setting: Setting, network: str) -> Path:
    """Where a converted network lies."""
    return Path(setting.cache) / "openvino" / f"{network}.xml"


def convert(setting: Setting) -> Figures:
    """Write the three networks in OpenVINO's format, in float32, for pictures of any size."""
    import openvino as ov
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    class Answer(torch.nn.Module):
        """A network's first output, of tensors alone."""

        def __init__(self, answer: Callable[..., tuple[Any, ...]], network: torch.nn.Module) -> None:
            super().__init__()
            self.network, self.answer = network, answer

        def forward(self, *inputs: Any) -> Any:
            return self.answer(*inputs, return_dict=False)[0]

    place(setting, "").parent.mkdir(parents=True, exist_ok=True)

    def write(name: str, network: Any, inputs: tuple[Any, ...], shapes: list[list[int]], answer: Any = None) -> None:
        with torch.inference_mode():
            kinds = [ov.Type.i64 if one.dtype == torch.int64 else ov.Type.f32 for one in inputs]
            model = ov.convert_model(
                Answer(answer or network, network.eval()), example_input=inputs,
                input=[(ov.PartialShape(shape), kind) for shape, kind in zip(shapes, kinds, strict=True)],
            )  # fmt: skip
        ov.save_model(model, place(setting, name), compress_to_fp16=False)

    def opened(kind: Any, part: str) -> Any:
        return kind.from_pretrained(setting.folder, subfolder=part, torch_dtype=torch.float32)

    write("text", opened(CLIPTextModel, "text_encoder"), (torch.ones(2, TOKENS, dtype=torch.int64),), [[2, TOKENS]])
    vae = opened(AutoencoderKL, "vae")
    write("vae", vae, (torch.randn(1, 4, 64, 64),), [[1, 4, -1, -1]], vae.decode)
    unet = opened(UNet2DConditionModel, "unet")
    inputs = (torch.randn(2, 4, 64, 64), torch.tensor(500), torch.randn(2, TOKENS, CONTEXT))
    write("unet", unet, inputs, [[2, 4, -1, -1], [], [2, TOKENS, CONTEXT]])
    return {}


def quantise(setting: Setting) -> Figures:
    """Write the U-Net again with weights and activations in int8."""
    import nncf
    import openvino as ov

    model = nncf.quantize(
        ov.Core().read_model(place(setting, "unet")), nncf.Dataset([inputs(setting._replace(size=256))]),
        model_type=nncf.ModelType.TRANSFORMER, subset_size=1, fast_bias_correction=True,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            disable_bias_correction=True, smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1)
        ),
    )  # fmt: skip
    ov.save_model(model, place(setting, "unet-int8"), compress_to_fp16=False)
    return {}


def inputs(setting: Setting) -> list[np.ndarray]:
    """Random latents of both rows, a timestep, and contexts."""
    random, side = np.random.default_rng(0), setting.size // 8
    latents = random.standard_normal((2, 4, side, side), dtype=np.float32)
    return [latents, np.array(999, dtype=np.int64), random.standard_normal((2, TOKENS, CONTEXT), dtype=np.float32)]


def compiled(setting: Setting, network: str, shape: list[int]) -> Any:
    """A network made ready for one size; called with a list of arrays it returns its first output."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(place(setting, network))
    model.reshape({model.input(0): shape})
    options = {
        "INFERENCE_NUM_THREADS": setting.threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def infer(values: list[np.ndarray]) -> np.ndarray:
        request.infer(values)
        return request.get_output_tensor(0).data

    return infer


def step(setting: Setting) -> Figures:
    """Seconds a step of Euler's sampler with guidance; its arithmetic is NumPy's."""
    side = setting.size // 8
    unet = compiled(setting, "unet-int8" if setting.variant == "int8" else "unet", [2, 4, side, side])
    latents, timestep, context = inputs(setting)
    x = latents[:1] * SIGMA
    steps = Steps(setting)
    sigmas = np.linspace(SIGMA, 0.03, steps.count + 1, dtype=np.float32)
    for sigma, after in pairwise(sigmas):
        rows = np.repeat(x / np.sqrt(sigma**2 + 1), 2, axis=0)
        uncond, cond = unet([rows, timestep, context])
        x = x + (after - sigma) * (uncond + GUIDANCE * (cond - uncond))
        steps.mark()
    if not np.isfinite(x).all():
        raise FloatingPointError("the latents are not finite")
    return steps.figures()


def encode(setting: Setting) -> Figures:
    """The text encoder on two prompts."""
    text = compiled(setting, "text", [2, TOKENS])
    tokens = np.random.default_rng(0).integers(VOCABULARY, size=(2, TOKENS), dtype=np.int64)
    return timed(lambda: text([tokens]), setting)


def decode(setting: Setting) -> Figures:
    """One latent to pixels."""
    latents = inputs(setting)[0][:1]
    vae = compiled(setting, "vae", list(latents.shape))
    return timed(lambda: vae([latents]), setting)


if __name__ == "__main__":
    serve({"convert": convert, "quantise": quantise, "step": step, "encode": encode, "decode": decode})
