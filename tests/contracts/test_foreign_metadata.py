"""sd-parsers and Sfumato read the same out of other programs' pictures."""

import json
from pathlib import Path

import pytest
from foreign_metadata import A1111, INVOKE, INVOKE_OLD, NOVELAI, comfy, png
from sd_parsers import ParserManager

from sfumato.metadata import read_settings

LINKS = [
    [number, int(link[0]), link[1], int(id_), 0, "CLIP" if name == "clip" else "ANY"]
    for number, (id_, name, link) in enumerate(
        (id_, name, link)
        for id_, node in comfy().items()
        for name, link in node["inputs"].items()
        if isinstance(link, list)
    )
]
WRITTEN = {
    "a1111": {"parameters": A1111},
    "comfyui": {"prompt": json.dumps(comfy()), "workflow": json.dumps({"links": LINKS})},
    "invokeai": {"invokeai_metadata": json.dumps(INVOKE)},
    "invokeai of old": {"sd_metadata": json.dumps(INVOKE_OLD)},
    "novelai": NOVELAI,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_both_read_the_same(tmp_path: Path, name: str) -> None:
    path = png(tmp_path / "a.png", **WRITTEN[name])
    ours, theirs = read_settings(path), ParserManager().parse(path)
    assert theirs is not None
    (sampler,) = theirs.samplers
    numbers = {
        key: float(sampler.parameters[key]) for key in ("seed", "steps", "cfg_scale") if key in sampler.parameters
    }
    assert numbers["seed"] == ours.seed
    assert numbers["cfg_scale"] == ours.guidance_scale
    assert numbers.get("steps", ours.steps) == ours.steps
    prompts = " ".join(prompt.value for prompt in sampler.prompts).split()
    negatives = " ".join(prompt.value for prompt in sampler.negative_prompts).split()
    # sd-parsers leaves LoRAs in the prompt, where the web UI has them.
    assert [word for word in prompts if not word.startswith("<lora:")] == (ours.prompt or "").split()
    assert negatives == ours.negative_prompt.split()
    assert sampler.model is not None
    stem = (sampler.model.name or "").rpartition("\\")[2].removesuffix(".ckpt")
    assert stem in ((ours.model or ""), (ours.model or "").rpartition(" ")[0])
