"""Tiny random checkpoints, made by the reference libraries once a session, for every test that needs a whole model."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Modules that tests of several folders share: `import tiny_families`.
sys.path.insert(0, str(Path(__file__).parent / "support"))

import hypothesis
import pytest
import torch

# How long an example takes says something of the machine, not of the code.
hypothesis.settings.register_profile("sfumato", deadline=None)
hypothesis.settings.load_profile("sfumato")


def build_tiny_folder(folder: Path, *, safety_checker: bool = False, prediction_type: str = "epsilon") -> Path:
    """A Stable Diffusion 1.x folder of some 100,000 random parameters, saved by diffusers itself."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from sfumato.text.tokenizer import Tokenizer

    torch.manual_seed(0)
    Tokenizer.bundled_clip().save(folder / "tokenizer")
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            vocab_size=49408,
            projection_dim=32,
            bos_token_id=49406,
            eos_token_id=49407,
        )
    )
    checker = None
    if safety_checker:
        vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = CLIPConfig(vision_config={**vision, "image_size": 32, "patch_size": 8}, projection_dim=16)
        checker = StableDiffusionSafetyChecker(config)
        # Untrained concepts are all ones; random directions with a threshold near the middle make both decisions occur.
        checker.concept_embeds.data.normal_()
        checker.concept_embeds_weights.data.fill_(0.555)
    pipe = StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=prediction_type,
        ),
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
        requires_safety_checker=safety_checker,
    )
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Stable Diffusion 1.x folder without a safety checker. Read it, don't write into it."""
    return build_tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_folder_with_checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a safety checker."""
    return build_tiny_folder(tmp_path_factory.mktemp("tiny-checked"), safety_checker=True)


@pytest.fixture(autouse=True)
def _steady_threads() -> None:
    """One thread a test: sums come out the same on any machine, and parallel test runs don't fight."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model of each family, by its name, made by diffusers when it is first asked for. Read only."""
    from tiny_families import FAMILIES, build_family

    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            build_family(FAMILIES[name], folders[name])
        return folders[name]

    return folder


SMALL = 64
"""The side of the pictures that tests have the model in the package draw, where nobody looks at them: its own are sixteen times as many pixels."""


@pytest.fixture(scope="session", autouse=True)
def _small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Has the model in the package draw small pictures unless it is told a size. Processes that a test starts have it as it is shipped."""
    import sfumato.bundle

    folder = tmp_path_factory.mktemp("small")
    shipped = sfumato.bundle.bundled_model()
    shutil.copytree(shipped, folder / "bundled", copy_function=os.symlink)
    card = folder / "bundled" / "sfumato.json"
    settings = json.loads(card.read_text(encoding="utf-8"))
    card.unlink()
    card.write_text(json.dumps(settings | {"height": SMALL, "width": SMALL}, indent=2) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sfumato.bundle, "__file__", str(folder / "bundle.py"))
        yield


@pytest.fixture(scope="module")
def as_shipped() -> Iterator[None]:
    """The model in the package with the size of its own pictures."""
    import sfumato
    import sfumato.bundle

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sfumato.bundle, "__file__", str(Path(sfumato.__file__).parent / "bundle.py"))
        yield
