"""Sfumato, by its public face, as it comes."""

from typing import Any

from bench.worker import GUIDANCE, AbsentError, Figures, Setting, Steps, imported, serve, since_start, timed


def import_pipeline(_: Setting) -> Figures:
    """The import that a program begins with."""

    def work() -> None:
        from sfumato import StableDiffusionPipeline  # noqa: F401

    return imported(work)


def opened(setting: Setting, *, single_file: bool = False) -> Any:
    """The checkpoint as a pipeline in float32, or in the variant that is measured."""
    if setting.variant not in ("", "int8"):
        raise AbsentError(f"Sfumato does not compute in {setting.variant}")
    import torch

    from sfumato import StableDiffusionPipeline

    torch.set_num_threads(setting.threads)
    if single_file:
        pipe = StableDiffusionPipeline.from_single_file(setting.file, torch_dtype=torch.float32)
    else:
        pipe = StableDiffusionPipeline.from_pretrained(setting.folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if setting.variant == "int8":
        pipe.quantize(setting.prompt, seeds=[0], num_inference_steps=2, height=64, width=64)
    return pipe


def draw(pipe: Any, setting: Setting, steps: int, **options: Any) -> Any:
    """A picture of seed 0."""
    return pipe(
        setting.prompt, num_inference_steps=steps, guidance_scale=GUIDANCE, height=setting.size, width=setting.size,
        seeds=[0], **options,
    ).images[0]  # fmt: skip


def step(setting: Setting) -> Figures:
    """Seconds a step of Euler's sampler with guidance, through the engine."""
    from sfumato import EulerDiscreteScheduler
    from sfumato.engine import StepDone

    pipe = opened(setting)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    steps = Steps(setting)
    draw(
        pipe, setting, steps.count, output_type="latent",
        on_event=lambda event: steps.mark() if isinstance(event, StepDone) else None,
    )  # fmt: skip
    return steps.figures()


def encode(setting: Setting) -> Figures:
    """The text encoder on a prompt and an empty one."""
    import torch

    pipe = opened(setting)
    tokens = torch.tensor([pipe.tokenizer.encode(text).ids for text in (setting.prompt, "")])
    with torch.no_grad():
        return timed(lambda: pipe.text_encoder(tokens), setting)


def decode(setting: Setting) -> Figures:
    """One latent to pixels, as a call decodes it."""
    import torch

    from sfumato.pipeline.decoding import Decoder

    decoder = Decoder(opened(setting).vae)
    latents = torch.randn(4, setting.size // 8, setting.size // 8, generator=torch.Generator().manual_seed(0))
    return timed(lambda: decoder.pixels(latents), setting)


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


def requests(setting: Setting) -> Figures:
    """Requests of different steps, samplers and prompts in flight together, and one after the other."""
    from bench.peers.sfumato_requests import in_flight

    return in_flight(opened(setting), setting)


if __name__ == "__main__":
    serve(
        {
            "import": import_pipeline, "step": step, "encode": encode, "decode": decode, "load": load,
            "picture": picture, "requests": requests,
        }
    )  # fmt: skip
