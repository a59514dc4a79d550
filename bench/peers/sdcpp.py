"""stable-diffusion.cpp by its Python bindings, with the file's float16 weights as it reads them."""

import time
from typing import Any

from bench.worker import GUIDANCE, Figures, Setting, Steps, serve, since_start


def opened(setting: Setting) -> Any:
    """The single file, read."""
    from stable_diffusion_cpp import StableDiffusion

    return StableDiffusion(model_path=setting.file, n_threads=setting.threads, vae_decode_only=True, verbose=False)


def draw(model: Any, setting: Setting, steps: int, **options: Any) -> Any:
    """A picture of seed 0."""
    return model.generate_image(
        prompt=setting.prompt, width=setting.size, height=setting.size, cfg_scale=GUIDANCE, sample_method="euler",
        sample_steps=steps, seed=0, **options,
    )[0]  # fmt: skip


def step(setting: Setting) -> Figures:
    """Seconds a step of Euler's sampler with guidance, and of what comes after the last one: decoding, for the most part."""
    model = opened(setting)
    steps = Steps(setting)
    last = 0.0

    # It reports on reading and decoding as well, in other numbers of steps.
    def reported(step: int, of: int, *_: object) -> None:
        nonlocal last
        if int(of) == steps.count and int(step) > 0:
            steps.mark()
            last = time.perf_counter()

    draw(model, setting, steps.count, progress_callback=reported)
    return {**steps.figures(), "after the last step": time.perf_counter() - last}


def load(setting: Setting) -> Figures:
    """Process start to a model that is ready to step, and to the end of a picture of 64 pixels in one step, from the single file."""
    model = opened(setting)
    ready = since_start()
    draw(model, setting._replace(size=64), 1)
    return {"seconds": ready, "to a first small step": since_start()}


def picture(setting: Setting) -> Figures:
    """Process start to a first picture."""
    model = opened(setting)
    ready = since_start()
    draw(model, setting, setting.steps)
    return {"seconds": since_start(), "ready": ready}


if __name__ == "__main__":
    serve({"step": step, "load": load, "picture": picture})
