import subprocess
import sys
from importlib import import_module

import pytest

import sfumato
import sfumato.pipeline

MOST = 24
"""Modules of ours that a program loads which only imports the pipeline; there are 17."""

LIBRARIES = {"PIL", "ftfy", "wcwidth", "tokenizers", "safetensors", "huggingface_hub", "tqdm", "rich", "typer"}
LATER = (
    "adapters", "checkpoints", "diffusion", "engine", "images", "infotext", "metadata", "models", "recipe", "schedulers",
    "text", "training", "variants", "pipeline.drawing", "pipeline.foreign", "pipeline.loading", "pipeline.pag",
    "pipeline.text_to_image", "pipeline.upscaling_pipelines", "pipeline.xl",
)  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """The modules that a program loads beyond those of torch."""
    script = f"import sys, torch; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stderr == ""
    return set(run.stdout.split())


def test_importing_the_pipeline_loads_its_face_alone() -> None:
    loaded = loaded_by("from sfumato import StableDiffusionPipeline")
    ours = {name for name in loaded if name.split(".")[0] == "sfumato"}
    assert "sfumato.pipeline.pipeline" in ours
    assert len(ours) <= MOST, sorted(ours)
    assert not {name.split(".")[0] for name in loaded} & LIBRARIES
    assert not {f"sfumato.{name}" for name in LATER} & ours


def test_a_picture_loads_no_more_than_it_needs() -> None:
    loaded = loaded_by(
        "from sfumato import StableDiffusionPipeline, bundled_model\n"
        "pipe = StableDiffusionPipeline.from_pretrained(bundled_model())\n"
        "pipe.set_progress_bar_config(disable=True)\n"
        "assert pipe('a red apple', num_inference_steps=1, height=64, width=64, seeds=[0]).images[0].size == (64, 64)"
    )
    assert {"sfumato.pipeline.drawing", "sfumato.diffusion.samplers.table"} <= loaded
    others = {"foreign", "image_pipelines", "pag", "tiled_upscaling", "upscaling_pipelines", "xl"}
    assert not {f"sfumato.pipeline.{name}" for name in others} & loaded
    assert not {"ftfy", "wcwidth", "sfumato.metadata"} & loaded


@pytest.mark.parametrize("package", ["sfumato", "sfumato.pipeline", "sfumato.schedulers"])
def test_every_name_of_a_package_can_be_asked_for_first(package: str) -> None:
    names = import_module(package).__all__
    scripts = "\n".join(f"from {package} import {name}" for name in names)
    loaded_by(scripts)
    loaded_by("\n".join(f"from {package} import {name}" for name in reversed(names)))


def test_names_are_listed_and_an_unknown_one_is_refused() -> None:
    assert set(sfumato.pipeline.__all__) <= set(dir(sfumato.pipeline))
    assert sfumato.pipeline.StableDiffusionPipeline is sfumato.StableDiffusionPipeline
    with pytest.raises(AttributeError, match=r"module 'sfumato\.pipeline' has no attribute 'StableDiffusion'"):
        _ = sfumato.pipeline.StableDiffusion


@pytest.mark.parametrize("kind", ["Text2Image", "Image2Image", "Inpainting"])
def test_each_automatic_pipeline_finds_its_perturbing_one_by_itself(kind: str) -> None:
    loaded = loaded_by(
        f"from sfumato import AutoPipelineFor{kind} as Auto, bundled_model\n"
        "assert Auto.from_pretrained(bundled_model(), enable_pag=True)._pag_scale > 0"
    )
    assert "sfumato.pipeline.pag" in loaded


def test_importing_adds_nothing_to_the_classes_that_a_pipeline_opens() -> None:
    """They are named: by whatever road a program comes, the family decides among the same."""
    loaded_by(
        "from sfumato import StableDiffusionPipeline as Plain, StableDiffusionImg2ImgPipeline as Painting\n"
        "import sfumato\n"
        "from sfumato.variants import FAMILIES\n"
        "for family in FAMILIES.values():\n"
        "    kind = Plain._kind_for(family, 'a model')\n"
        "    assert kind.__name__ in sfumato.__all__ and family.make in kind._makes and issubclass(kind, Plain)\n"
    )
