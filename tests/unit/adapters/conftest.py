"""Tiny random networks, and adapters for them in any dialect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.checkpoints.diffusers_layout import text_keys, unet_keys
from sfumato.checkpoints.ldm_layout import ldm_unet_keys
from sfumato.models import CLIPTextConfig, CLIPTextEncoder, UNet, UNetConfig

RANK = 2


@dataclass
class Tiny:
    """A U-Net and a text encoder, and where files of adapters for them are written."""

    folder: Path
    context_dim: int = 16
    width: int = 16
    networks: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        unet = UNet(
            UNetConfig(
                channels=(8, 16), blocks_per_level=1, attention=(True, False), heads=(2, 2), depth=(1, 1),
                context_dim=self.context_dim, norm_groups=4, sample_size=8,
            )
        )  # fmt: skip
        for parameter in unet.parameters():
            parameter.data.normal_(std=0.2)  # also of the layers that start as zeros
        text = CLIPTextEncoder(
            CLIPTextConfig(vocab_size=99, width=self.width, layers=2, heads=2, mlp_width=32, eos_token_id=98)
        )
        self.networks = {"unet": unet.eval(), "text_encoder": text.eval()}

    def layers(self, network: str) -> dict[str, nn.Module]:
        """Layers that adapters change, by their name in the diffusers layout."""
        keys = unet_keys(self.unet.config) if network == "unet" else text_keys(self.text.config)
        return self._of(keys.table, network)

    def ldm_layers(self) -> dict[str, nn.Module]:
        """The U-Net's, by their name in the original layout."""
        return self._of(ldm_unet_keys(self.unet.config).table, "unet")

    def _of(self, table: tuple[tuple[str, str], ...], network: str) -> dict[str, nn.Module]:
        found = dict(self.networks[network].named_modules())
        kinds = (nn.Linear, nn.Conv2d)
        return {theirs: found[ours] for theirs, ours in table if isinstance(found.get(ours), kinds)}

    @property
    def unet(self) -> UNet:
        network = self.networks["unet"]
        assert isinstance(network, UNet)
        return network

    @property
    def text(self) -> CLIPTextEncoder:
        network = self.networks["text_encoder"]
        assert isinstance(network, CLIPTextEncoder)
        return network

    def save(
        self, tensors: Mapping[str, Tensor], name: str = "x.safetensors", metadata: dict[str, str] | None = None
    ) -> Path:
        path = self.folder / name
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
        return path

    def kohya(
        self, *networks: str, parts: Callable[[nn.Module], Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """An adapter as kohya's scripts and LyCORIS write it: LoRA of attention, unless `parts` makes something else."""
        tensors: dict[str, Tensor] = {}
        for network in networks or ("unet", "text_encoder"):
            prefix = {"unet": "lora_unet", "text_encoder": "lora_te"}[network]
            for name, layer in self.layers(network).items():
                if "to_" in name or "_proj" in name or parts is not None:
                    for part, tensor in (parts or lora_parts)(layer).items():
                        tensors[f"{prefix}_{name.replace('.', '_')}.{part}"] = tensor
        return tensors

    def answers(self) -> tuple[Tensor, Tensor]:
        """What the networks give for fixed inputs: the U-Net's answer, and the text encoder's hidden states."""
        g = torch.Generator().manual_seed(1)
        x, context = torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 5, self.context_dim, generator=g)
        with torch.no_grad():
            return self.unet(x, 500, context), self.text(torch.arange(10)[None]).hidden


def lora_parts(layer: nn.Module) -> dict[str, Tensor]:
    """A LoRA of a layer, with an alpha that is not its rank."""
    out, into, *kernel = layer.weight.shape
    ones = [1] * len(kernel)
    return {
        "lora_down.weight": torch.randn(RANK, into, *kernel) * 0.3,
        "lora_up.weight": torch.randn(out, RANK, *ones) * 0.3,
        "alpha": torch.tensor(1.5),
    }


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return Tiny(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """One for many examples; leave it as it is."""
    return Tiny(tmp_path_factory.mktemp("shared"))
