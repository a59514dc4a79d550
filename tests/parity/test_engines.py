"""Every engine's answers beside eager PyTorch's: tiny U-Nets of every family, decoders, and whole pictures of the bundled model."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.checkpoints.unets import build
from sfumato.engine.evaluators import Prepared, Task, decoder_task, difference, engine_for, unet_task
from sfumato.errors import EngineError
from sfumato.models import AutoencoderKL
from sfumato.models.latent_upscaler import LatentUpscaler
from sfumato.models.unet import Told
from sfumato.variants import FAMILIES
from tests.support.tiny_families import WIDTH_2, tiny_unet, tiny_vae

CLOSE = 1e-4
# The first of each make and of everything that a network is told; and the bundled model's, which no family has.
KINDS = list({(each.make, each.unet.in_channels, bool(each.unet.guidance_width)): name for name, each in FAMILIES.items()}.values())  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))


def ready(name: str) -> Prepared:
    if name == "openvino":
        pytest.importorskip("openvino")
    if name == "compile" and not any(map(shutil.which, ("g++", "clang++", "cl"))):
        pytest.skip("no C++ compiler")
    engine = engine_for(name)
    assert isinstance(engine, Prepared)
    return engine


def network_of(family: str) -> Any:
    torch.manual_seed(0)
    network = build(tiny_unet(FAMILIES[family]))
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data = 0.15 * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


def task_of(network: Any, rows: int, height: int, width: int, tokens: int = 7) -> Task:
    generator = torch.Generator().manual_seed(2)
    config = network.config

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    if isinstance(network, LatentUpscaler):
        told = Told(pooled=normal(rows, config.context_dim))
    else:
        numbers = (config.sizes_width - WIDTH_2) // config.size_width if config.sizes_width else 0
        told = Told(
            pooled=normal(rows, WIDTH_2) if numbers else None,
            sizes=torch.full((rows, numbers), 64.0) if numbers else None,
            noise_level=torch.full((rows,), 3) if config.noise_levels else None,
            guidance_scale=torch.full((rows,), 7.5) if config.guidance_width else None,
        )
    keys_values = network.keys_values(normal(rows, tokens, config.context_dim), told)
    x = normal(rows, config.in_channels, height, width).contiguous(memory_format=torch.channels_last)
    return unet_task(network, x, torch.linspace(1, 900, rows), keys_values, {})


def agrees(engine: Prepared, network: Any) -> None:
    with torch.no_grad():
        for shape in ((2, 8, 8), (1, 8, 16)):
            task = task_of(network, *shape)
            for _ in range(2):  # as it is made ready, and as it is kept
                assert difference(engine.answer(task), task.eagerly()) < CLOSE


@pytest.mark.parametrize("family", [name for name in KINDS if name != "x2-latent-upscaler"])
def test_openvino_answers_as_eager_pytorch_for_every_family(family: str) -> None:
    agrees(ready("openvino"), network_of(family))


def test_openvino_leaves_the_latent_upscaler_to_eager_pytorch() -> None:
    with pytest.raises(EngineError, match="can't compile a latent upscaler"):
        ready("openvino").answer(task_of(network_of("x2-latent-upscaler"), 2, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize("family", KINDS)
def test_compiled_answers_are_eager_pytorch_s_for_every_family(family: str) -> None:
    agrees(ready("compile"), network_of(family))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["graphs", "compile"])
@pytest.mark.parametrize("family", KINDS)
def test_on_a_gpu_answers_are_eager_pytorch_s(name: str, family: str) -> None:
    engine, network = ready(name), network_of(family)
    with torch.no_grad():
        for shape in ((2, 8, 8), (1, 8, 16)):
            on_cpu = task_of(network.cpu(), *shape)
            network.cuda()
            inputs = tuple(each.cuda() for each in on_cpu.inputs)
            task = Task(
                network=network, function=on_cpu.function, form=on_cpu.form, inputs=inputs,
                eagerly=lambda function=on_cpu.function, form=on_cpu.form, inputs=inputs: function(network, form, *inputs),
            )  # fmt: skip
            for _ in range(2):
                assert difference(engine.answer(task), task.eagerly()) < 1e-3  # TF32 where it is on


@pytest.mark.parametrize("name", ["openvino", pytest.param("compile", marks=pytest.mark.slow)])
def test_a_decoder_answers_as_eager_pytorch(name: str) -> None:
    engine = ready(name)
    torch.manual_seed(0)
    vae = AutoencoderKL(tiny_vae(FAMILIES["sd1"])).eval().requires_grad_(False)
    with torch.no_grad():
        for size in ((8, 8), (6, 12)):
            task = decoder_task(vae, torch.randn(1, 4, *size))
            assert difference(engine.answer(task), task.eagerly()) < CLOSE


@pytest.mark.parametrize("name", ["openvino", pytest.param("compile", marks=pytest.mark.slow)])
def test_the_bundled_model_draws_the_same_picture(name: str) -> None:
    ready(name)
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(sfumato.bundled_model())
    pipe.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"prompt": "a red apple, 3d style", "num_inference_steps": 8, "seeds": [5]}
    eager = np.asarray(pipe(**options).images[0]).astype(int)
    output = pipe.set_engine(name)(**options)
    assert output.notes == []
    assert np.abs(np.asarray(output.images[0]).astype(int) - eager).max() <= 2
    assert pipe.replay(output.images[0].recipe).identical
