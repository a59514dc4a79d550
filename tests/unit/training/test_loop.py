"""The loop takes no step that would spoil the run."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.errors import TrainingError
from sfumato.training.config import LearningRate, RunConfig
from sfumato.training.loop import run_steps
from sfumato.training.run import RunFolder


class PoisonedGradient(torch.autograd.Function):
    """Passes its input on and answers with NaN on the way back: a finite loss with a gradient that is not."""

    @staticmethod
    def forward(_, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_, gradient: Tensor) -> Tensor:
        return gradient * torch.nan


def run(folder: Path, poison) -> tuple[nn.Linear, list[int]]:
    torch.manual_seed(0)
    model, taken = nn.Linear(2, 1), []
    config = RunConfig(images=6, batch=1, save_every=1, learning_rate=LearningRate(warmup=0))
    optimizer = torch.optim.AdamW(model.parameters())

    def loss_at(step: int) -> Tensor:
        loss = model(torch.ones(1, 2)).square().sum()
        return poison(loss) if step == 3 else loss

    with pytest.raises(TrainingError, match="at step 3, which was not taken"):
        run_steps(
            RunFolder(folder, config),
            optimizer,
            first=0,
            loss_at=loss_at,
            state=lambda: {"weights": dict(model.state_dict())},
            show=lambda done: {},
            progress=lambda line: None,
            after_step=taken.append,
        )
    return model, taken


@pytest.mark.parametrize("poison", [PoisonedGradient.apply, lambda loss: loss * torch.nan], ids=["gradient", "loss"])
def test_what_is_not_finite_is_not_stepped_on(tmp_path, poison):
    model, taken = run(tmp_path, poison)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert taken == [0, 1, 2]
    assert saved["step"] == 3
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all()
        assert torch.equal(tensor, saved["weights"][name])
