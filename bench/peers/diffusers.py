"""diffusers, eager in float32 as it comes, or with its U-Net compiled."""

from typing import Any

from bench.worker import GUIDANCE, Figures, Setting, Steps, imported, serve, since_start, timed


def import_pipeline(_: Setting) -> Figures:
    """The import that a program begins with."""

    def work() -> None:
        from diffusers import StableDiffusionPipeline  # noqa: F401

    return imported(work)


def opened(setting: Setting, *, single_file: bool = False) -> Any:
    """The checkpoint as a pipeline in float32."""
    import torch
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(setting.threads)
    options = {"torch_dtype": torch.float32, "safety_checker": None}
    if single_file:
        pipe = StableDiffusionPipeline.from_single_file(setting.file, config=setting.folder, **options)
    else:
        pipe = StableDiffusionPipeline.from_pretrained(setting.folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, setting: Setting, steps: int, **options: Any) -> Any:
    """A picture of seed 0."""
    import torch

    return pipe(
        setting.prompt, num_inference_steps=steps, guidance_scale=GUIDANCE, height=setting.size, width=setting.size,
        generator=torch.Generator().manual_seed(0), **options,
    ).images[0]  # fmt: skip


def step(setting: Setting) -> Figures:
    """Seconds a step of Euler's sampler with guidance."""
    import torch
    from diffusers import EulerDiscreteScheduler

    pipe = opened(setting)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    if setting.variant == "compiled":
        pipe.unet = torch.compile(pipe.unet)
    steps = Steps(setting)

    def ended(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.mark()
        return tensors

    draw(pipe, setting, steps.count, output_type="latent", callback_on_step_end=ended)
    return steps.figures()


def encode(setting: Setting) -> Figures:
    """The text encoder on a prompt and an empty one."""
    import torch

    pipe = opened(setting)
    tokens = pipe.tokenizer([setting.prompt, ""], padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        return timed(lambda: pipe.text_encoder(tokens), setting)


def decode(setting: Setting) -> Figures:
    """One latent to pixels."""
    import torch

    vae = opened(setting).vae
    latents = torch.randn(1, 4, setting.size // 8, setting.size // 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return timed(lambda: vae.decode(latents), setting)


def load(setting: Setting) -> Figures:
    """Process start to a pipeline that is ready to step, and to the end of a step of 64 pixels, from the single file."""
    pipe = opened(setting, single_file=True)
    ready = since_start()
    draw(pipe, setting._replace(size=64), 1, output_type="latent")
    return {"seconds": ready, "to a first small step": since_start()}


def picture(setting: Setting) -> Figures:
    """Process start to a first picture."""
    pipe = opened(setting)
    ready = since_start()
    draw(pipe, setting, setting.steps)
    return {"seconds": since_start(), "ready": ready}


if __name__ == "__main__":
    serve(
        {"import": import_pipeline, "step": step, "encode": encode, "decode": decode, "load": load, "picture": picture}
    )
