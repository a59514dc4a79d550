"""Whole networks: what peft and LyCORIS save of a U-Net they have adapted changes ours as it changes theirs."""

import logging
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.adapters import ActiveAdapters, Merger, Weighted, open_adapter
from sfumato.checkpoints import open_folder

peft = pytest.importorskip("peft")
lycoris = pytest.importorskip("lycoris")

# of the largest value: sums are taken in other orders
CLOSE = 2e-5


@pytest.fixture
def unets(tiny_folder: Path) -> tuple[nn.Module, nn.Module]:
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tiny_folder, subfolder="unet").eval()
    ours = open_folder(tiny_folder, dtype=torch.float32, components={"unet"}).unet
    assert ours is not None
    return theirs, ours


def inputs() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    return torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 7, 32, generator=g)


def theirs_answer(unet: Any) -> Tensor:
    x, context = inputs()
    with torch.no_grad():
        return unet(x, 500, context).sample


def check(ours: nn.Module, path: Path, expected: Tensor, plain: Tensor, layers: int) -> None:
    x, context = inputs()
    adapter = open_adapter(path, {"unet": ours})
    assert adapter.report.unmatched == ()
    assert adapter.report.matched == {"unet": layers}
    bound = CLOSE * expected.abs().max().item()
    assert (expected - plain).abs().max() > 100 * bound
    with torch.no_grad():
        with ActiveAdapters((Weighted(adapter, {"unet": 1.0}),)).beside("unet", ours):
            torch.testing.assert_close(ours(x, 500, context), expected, atol=bound, rtol=0)
        merger = Merger()
        merger.merge(ours, "unet", [(adapter, 1.0)])
        torch.testing.assert_close(ours(x, 500, context), expected, atol=bound, rtol=0)
        merger.restore(ours)
        torch.testing.assert_close(ours(x, 500, context), plain, atol=bound, rtol=0)


def randomised(network: nn.Module, marks: tuple[str, ...]) -> None:
    torch.manual_seed(1)
    for name, parameter in network.named_parameters():
        if any(mark in name for mark in marks):
            noise = torch.randn_like(parameter)
            near_norms = any(word in name for word in ("magnitude", "dora", "ia3_l"))
            parameter.data = parameter.data + 0.1 * noise if near_norms else 0.2 * noise


TARGETS = [
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "conv1",
    "conv2",
    "conv_shortcut",
    "proj_in",
    "ff.net.2",
    "time_emb_proj",
]
PEFT = {
    "LoRA": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, alpha_pattern={"attn1.to_q": 9}),
    "rsLoRA of several ranks": lambda: peft.LoraConfig(
        r=4, lora_alpha=6, use_rslora=True, target_modules=TARGETS, rank_pattern={"conv1": 2}
    ),
    "DoRA": lambda: peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=TARGETS),
    "LoHa": lambda: peft.LoHaConfig(r=4, alpha=6, target_modules=TARGETS, use_effective_conv2d=True),
    "LoKr": lambda: peft.LoKrConfig(r=2, alpha=6, target_modules=TARGETS),
    "(IA)³": lambda: peft.IA3Config(target_modules=["to_k", "to_v", "ff.net.2"], feedforward_modules=["ff.net.2"]),
}


@pytest.mark.parametrize("config", PEFT.values(), ids=PEFT.keys())
def test_a_folder_that_peft_saved(unets: tuple[Any, nn.Module], tmp_path: Path, config: Any) -> None:
    theirs, ours = unets
    plain = theirs_answer(theirs)
    model = peft.get_peft_model(theirs, config()).eval()
    randomised(model, ("lora_", "hada_", "lokr_", "ia3_"))
    expected = theirs_answer(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft looks for a base model on the hub
        model.save_pretrained(tmp_path)
    layers = sum(isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer) for module in model.modules())
    check(ours, tmp_path / "adapter_model.safetensors", expected, plain, layers)


LYCORIS: dict[str, dict[str, Any]] = {
    "LoCon": {"algo": "locon"},
    "LoCon with cores": {"algo": "locon", "use_tucker": True},
    "DoRA": {"algo": "locon", "dora_wd": True},
    "LoHa": {"algo": "loha"},
    "LoKr": {"algo": "lokr", "factor": 4},
    "(IA)³": {"algo": "ia3"},
}


@pytest.mark.parametrize("options", LYCORIS.values(), ids=LYCORIS.keys())
def test_a_file_that_lycoris_saved(unets: tuple[Any, nn.Module], tmp_path: Path, options: dict[str, Any]) -> None:
    theirs, ours = unets
    plain = theirs_answer(theirs)
    logging.getLogger("LyCORIS").setLevel(logging.ERROR)
    network = lycoris.create_lycoris(theirs, 1.0, linear_dim=4, linear_alpha=2, **options).eval()
    network.apply_to()
    randomised(network, ("",))
    expected = theirs_answer(theirs)
    state = {key: tensor.detach().clone().contiguous() for key, tensor in network.state_dict().items()}
    for prefix in ("lycoris_", "lora_unet_"):
        save_file(
            {key.replace("lycoris_", prefix, 1): tensor for key, tensor in state.items()}, tmp_path / "x.safetensors"
        )
        check(ours, tmp_path / "x.safetensors", expected, plain, len(network.loras))
