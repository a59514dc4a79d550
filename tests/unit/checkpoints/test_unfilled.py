import subprocess
import sys

import torch
from torch import nn

from sfumato.checkpoints.unfilled import unfilled
from sfumato.models import UNet, UNetConfig


def test_networks_take_no_memory_and_no_random_numbers() -> None:
    before = torch.get_rng_state()
    with unfilled():
        network = UNet(UNetConfig())
        nn.Embedding(10, 10)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), before)
    assert nn.Linear(2, 2).weight.device.type == "cpu", "only inside the block"


def test_opening_a_model_does_not_import_the_compiler() -> None:
    code = (
        "import sys; from sfumato import StableDiffusionPipeline, bundled_model; "
        "StableDiffusionPipeline.from_pretrained(bundled_model()); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
