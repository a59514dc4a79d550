"""The loop takes no step that would spoil the run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.errors import TrainingError
from sfumato.training import loop as loop_module
from sfumato.training import run as run_module
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


class Clock:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


def timed_run(folder: RunFolder, first: int = 0, progress=lambda line: None) -> list[float]:
    """The rates of the steps that were taken."""
    model = nn.Linear(2, 1)
    optimizer, rates = torch.optim.AdamW(model.parameters()), []
    run_steps(
        folder,
        optimizer,
        first=first,
        loss_at=lambda step: model(torch.ones(1, 2)).square().sum(),
        state=lambda: {"weights": dict(model.state_dict())},
        show=lambda done: {},
        progress=progress,
        after_step=lambda step: rates.append(optimizer.param_groups[0]["lr"]),
    )
    return rates


def test_run_ends_decayed_when_its_minutes_are_spent(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module.time, "monotonic", Clock().monotonic)
    config = RunConfig(
        images=10**6, batch=1, minutes=1.0, log_every=10, save_every=10**6, show_every=10**6,
        learning_rate=LearningRate(peak=1.0, warmup=0, decay=0.5),
    )  # fmt: skip
    lines: list[str] = []
    folder = RunFolder(tmp_path, config)
    folder.begin()
    rates = timed_run(folder, progress=lines.append)
    assert 20 <= len(rates) <= 60
    assert rates[: len(rates) // 3] == [1.0] * (len(rates) // 3)
    assert rates[len(rates) // 2 :] == sorted(rates[len(rates) // 2 :], reverse=True)
    assert rates[-1] < 0.1
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == len(rates)
    assert saved["seconds"] >= 60
    assert "min left" in lines[0]

    # Started again, there is nothing left to do; with more minutes it goes on where it was.
    folder.end()
    again = RunFolder(tmp_path, config)
    again.begin()
    assert again.share(saved["step"]) == 1.0
    assert timed_run(again, first=saved["step"]) == []
    again.end()
    longer = RunFolder(tmp_path, replace(config, minutes=2.0))
    longer.begin()
    assert len(timed_run(longer, first=saved["step"])) == pytest.approx(len(rates), abs=3)


def test_run_without_minutes_does_not_look_at_the_clock(tmp_path):
    config = RunConfig(images=4, batch=1, learning_rate=LearningRate(peak=1.0, warmup=0, decay=1.0))
    folder = RunFolder(tmp_path, config)
    folder.begin()
    assert timed_run(folder) == [1.0, 0.75, 0.5, 0.25]
    assert folder.share(4) == 1.0


def test_on_a_gpu_what_is_not_finite_is_found_before_it_is_kept(tmp_path, monkeypatch):
    """The loop as it runs where steps are not waited for, made to believe that the weights lie elsewhere."""
    monkeypatch.setattr(loop_module, "_waits", lambda trained: False)
    torch.manual_seed(0)
    model, taken, lines = nn.Linear(2, 1), [], []
    config = RunConfig(images=40, batch=1, log_every=4, save_every=6, learning_rate=LearningRate(warmup=0))

    def loss_at(step: int) -> Tensor:
        loss = model(torch.ones(1, 2)).square().sum()
        return loss * torch.nan if step == 8 else loss

    folder = RunFolder(tmp_path, config)
    folder.begin()
    with pytest.raises(TrainingError, match="at step 8, which came after the last checkpoint"):
        run_steps(
            folder,
            torch.optim.AdamW(model.parameters()),
            first=0,
            loss_at=loss_at,
            state=lambda: {"weights": dict(model.state_dict())},
            show=lambda done: {},
            progress=lines.append,
            after_step=taken.append,
        )
    assert taken == list(range(12))
    assert len(lines) == 2
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 6
    assert all(torch.isfinite(tensor).all() for tensor in saved["weights"].values())


class Times(Clock):
    """Both of the clocks that a run looks at; the time of day is a second behind at each look."""

    def time(self) -> float:
        return 1000.0 + self.seconds


def ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, **settings) -> tuple[RunFolder, Times]:
    clock = Times()
    monkeypatch.setattr(run_module.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(run_module.time, "time", clock.time)
    config = RunConfig(
        **{"images": 10**6, "batch": 1, "minutes": 600.0, "log_every": 10, "save_every": 10**6, "show_every": 10**6,
           "learning_rate": LearningRate(peak=1.0, warmup=0, decay=0.5)} | settings,
    )  # fmt: skip
    return RunFolder(tmp_path, config, until=1000.0 + clock.seconds + seconds), clock


def test_run_ends_decayed_at_the_time_it_was_told_whatever_its_minutes(tmp_path, monkeypatch):
    folder, clock = ending(tmp_path, monkeypatch, 60)
    with folder.begun():
        rates = timed_run(folder)
    assert 20 <= len(rates) <= 60
    assert rates[0] == 1.0
    assert rates[-1] < 0.1
    # Killed then, it goes on to another time with what is behind it in mind: 60 of 120 seconds.
    again = RunFolder(tmp_path, folder.config, until=clock.time() + 60)
    with again.begun() as state:
        assert state is not None
        rates = timed_run(again, first=state["step"])
    assert rates[0] == pytest.approx(1.0, abs=0.1)
    assert rates == sorted(rates, reverse=True)


def test_time_that_has_passed_trains_nothing(tmp_path, monkeypatch):
    folder, _ = ending(tmp_path, monkeypatch, -5)
    with folder.begun(), pytest.raises(TrainingError, match=r"was to end .* seconds ago, and nothing is trained"):
        timed_run(folder)
    assert not folder.checkpoint.exists()


def test_time_that_ends_during_a_look_still_ends_the_run_with_a_checkpoint(tmp_path, monkeypatch):
    folder, clock = ending(tmp_path, monkeypatch, 60, show_every=5)
    model, looked = nn.Linear(2, 1), []
    optimizer = torch.optim.AdamW(model.parameters())

    def show(done: int) -> dict[str, float]:
        looked.append(done)
        clock.seconds += 100
        return {}

    with folder.begun():
        run_steps(
            folder, optimizer, first=0, loss_at=lambda step: model(torch.ones(1, 2)).square().sum(), show=show,
            state=lambda: {"weights": dict(model.state_dict())}, progress=lambda line: None,
        )  # fmt: skip
    assert looked == [5, 6]
    assert torch.load(folder.checkpoint, weights_only=True)["step"] == 6
    assert optimizer.param_groups[0]["lr"] == 0.0
