"""Names of the field that Sfumato does not have, each with a plain reason, so that a notebook says why it stops."""

from collections.abc import Sequence
from typing import NoReturn

from sfumato.errors import AbsentError, AbsentNameError

_IMAGE_PROMPT = "image prompt adapters are not available yet"
_STEPWISE = (
    "there is no loop to write around the U-Net and the scheduler here: call the pipeline, with callback_on_step_end"
)
_TO = 'use .to("cuda"), .to("cpu") or .to(torch.float16)'

REASONS: dict[str, str] = {
    "save_lora_weights": "adapters are read and not written; save_pretrained(…) writes what fuse_lora() merged",
    "set_lora_device": "adapters go where the model goes",
    "enable_lora_hotswap": "adapters run beside the weights, so that any can follow any",
    "load_ip_adapter": _IMAGE_PROMPT,
    "set_ip_adapter_scale": _IMAGE_PROMPT,
    "unload_ip_adapter": _IMAGE_PROMPT,
    "image_encoder": _IMAGE_PROMPT,
    "prepare_latents": _STEPWISE,
    "prepare_extra_step_kwargs": _STEPWISE,
    "get_timesteps": _STEPWISE,
    "check_inputs": "a call checks its arguments itself, before any work",
    "run_safety_checker": "a call runs the safety checker itself",
    "decode_latents": "use pipe.vae.decode(latents / pipe.vae.config.scaling_factor)",
    "_encode_prompt": "use encode_prompt(…), which returns the prompt's embeddings and the negative prompt's",
    "upcast_vae": "an autoencoder that overflows in float16 is computed in float32 by itself; pipe.vae.to(torch.float32) does it for good",
    "push_to_hub": "save_pretrained(…) writes a folder, which the hub's own command can upload",
    "register_modules": "assign the part: pipe.unet = …",
    "set_attention_backend": "PyTorch's own memory-efficient attention is always used",
    "cuda": _TO,
    "cpu": _TO,
    "half": _TO,
    "float": _TO,
}


def refuse(name: str) -> NoReturn:
    """Raise AbsentError with the reason for a name that pipelines of the field have, AttributeError for any other."""
    if name in REASONS:
        raise AbsentError(f"{name} is not available: {REASONS[name]}")
    raise AttributeError(f"StableDiffusionPipeline has no attribute {name!r}")


def refuse_name(name: str, offered: Sequence[str]) -> NoReturn:
    """Raise AbsentNameError for a name that is exported by diffusers and not by this package, which offers `offered`."""
    kind = name.rpartition("Pipeline")[1] or name.rpartition("Scheduler")[1]
    if kind == "Scheduler":
        there = f"the schedulers there are: {', '.join(known for known in offered if known.endswith('Scheduler'))}"
    elif kind == "Pipeline":
        there = (
            f"there are {', '.join(known for known in offered if known.startswith('Stable') and known.endswith(kind))}"
        )
    else:
        there = "StableDiffusionPipeline.from_pretrained(…) opens a whole model, with .unet, .vae, .text_encoder and .tokenizer"
    raise AbsentNameError(f"sfumato has no {name} yet; {there}")
