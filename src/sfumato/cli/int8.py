"""`--int8`: the U-Net in int8, by scales that come with the model, lie in a file, or are taken first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato.cli.terminal import say
from sfumato.files import check_writable
from sfumato.pipeline import StableDiffusionPipeline

# A few show what goes into the layers; each costs a picture's time.
CALIBRATED_ON = 8
SETTINGS = ("height", "width", "num_inference_steps", "guidance_scale", "negative_prompt", "clip_skip", "emphasis")
"""What of a run's settings its scales are taken with."""


def use_int8(
    pipe: StableDiffusionPipeline, scales: Path | None, prompts: Sequence[str], settings: Mapping[str, Any], seed: int
) -> None:
    """Compute the pipeline's U-Net in int8; the scales that `scales` lacks are taken from drawing some of the prompts, and written there.

    Raises as `pipe.quantize`, OutputError for a file that can't be written.
    """
    if scales is None or scales.exists():
        pipe.quantize(scales=scales)
        return
    check_writable(scales)
    distinct = list(dict.fromkeys(prompts))[:CALIBRATED_ON]
    pipe.quantize(distinct, seeds=[seed], **{name: settings[name] for name in SETTINGS})
    pipe.save_quantization(scales)
    say(f"int8 scales from {len(distinct)} of the prompts: {scales}")
