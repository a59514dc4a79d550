"""What is made ready before a run's clock starts is what the run then uses: nothing is compiled, or recorded, twice."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sfumato.errors import TrainingError
from sfumato.models import UNetConfig
from sfumato.training import loop
from sfumato.training.base_config import BaseTrainConfig, TextSizes
from sfumato.training.learner import Learner
from sfumato.training.loop import run_steps
from sfumato.training.objective import Batches
from sfumato.training.run import RunFolder
from sfumato.training.scene_set import SceneSet
from sfumato.training.tokens import tokenizer_for

CONFIG = BaseTrainConfig(
    data="art", vae="vae", images=16, batch=2, halved=0.5, compile=True,
    text=TextSizes(width=8, layers=1, heads=2, max_length=8, base_merges=0),
    unet=UNetConfig(
        channels=(8, 8), blocks_per_level=1, attention=(False, True), heads=(2, 2), depth=(1, 1), context_dim=8,
        norm_groups=4, sample_size=8,
    ),
)  # fmt: skip
CAPTIONS = (("an apple", "apple"),) * 8


def learner_and_batches(config: BaseTrainConfig) -> tuple[Learner, Batches]:
    tokenizer = tokenizer_for(("an apple",), config.text)
    scenes = SceneSet(torch.randn(8, 4, 8, 8), CAPTIONS, torch.randn(8, 4, 4, 4))
    return Learner(config, tokenizer, torch.device("cpu")), Batches(scenes, tokenizer, config)


def take(learner: Learner, batches: Batches, step: int, done: float) -> float:
    loss = learner.loss(batches(step, done))
    loss.backward()
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    return loss.item()


def test_a_run_compiles_nothing_after_its_warm_up(monkeypatch: pytest.MonkeyPatch):
    compiled: list[tuple[int, ...]] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        compiled.append(tuple(tensor.shape[0] for tensor in inputs if tensor.ndim == 4 and tensor.shape[1] == 4))
        return graph.forward

    torch._dynamo.reset()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend=backend, **options))
    learner, batches = learner_and_batches(CONFIG)
    before = {name: weight.clone() for name, weight in learner.model.state_dict().items()}
    learner.warm_up()
    made = len(compiled)
    assert made == 2
    assert all(torch.equal(weight, before[name]) for name, weight in learner.model.state_dict().items())
    assert all(parameter.grad is None for parameter in learner.model.parameters())
    for step, done in ((0, 0.0), (1, 0.3), (2, 0.5), (3, 0.9)):
        take(learner, batches, step, done)
    assert len(compiled) == made
    torch._dynamo.reset()


class Recorder:
    """Stands for CUDA's recorder, or refuses: as there, every answer of a graph lies in the same place."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.recorded: list[int] = []
        self.used: list[int] = []

    def __call__(self, step: nn.Module, batch: tuple[torch.Tensor, ...], **options: Any) -> Any:
        if self.refusal:
            raise RuntimeError(self.refusal)
        assert options == {"allow_unused_input": True}
        assert {id(p) for p in step.parameters()}
        self.recorded.append(len(batch[0]))
        place = torch.zeros(())

        class Replayed(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, loss: torch.Tensor) -> torch.Tensor:
                return place.copy_(loss).detach()

            @staticmethod
            def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
                return gradient

        def replay(*given: torch.Tensor) -> torch.Tensor:
            self.used.append(len(given[0]))
            answer: Any = Replayed.apply(step(*given))
            return answer

        return replay


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch):
    """A learner on a CPU that records as it would on a GPU."""

    def made(recorder: Recorder) -> tuple[Learner, Batches]:
        monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder)
        learner, batches = learner_and_batches(replace(CONFIG, compile=False, graphs=True))
        monkeypatch.setattr(Learner, "_records", property(lambda self: True))
        return learner, batches

    return made


def test_both_sizes_of_batch_are_recorded_and_used(recording):
    recorder = Recorder()
    learner, batches = recording(recorder)
    plain, same_batches = learner_and_batches(replace(CONFIG, compile=False))
    learner.warm_up()
    assert recorder.recorded == [8, 2]
    for step, done in ((0, 0.0), (1, 0.6)):
        assert take(learner, batches, step, done) == take(plain, same_batches, step, done)
    assert recorder.used == [8, 2]


@pytest.mark.parametrize(
    ("halved", "done", "sizes"), [(0.5, 0.0, [8, 2]), (0.5, 0.5, [2]), (1.0, 0.0, [8]), (0.0, 0.0, [2])]
)
def test_only_what_lies_ahead_is_recorded(recording, halved, done, sizes):
    recorder = Recorder()
    learner, _ = recording(recorder)
    learner.config = replace(learner.config, halved=halved)
    learner.warm_up(done)
    assert recorder.recorded == sizes


def test_a_step_that_can_not_be_recorded_is_told(recording):
    learner, _ = recording(Recorder("operation not permitted"))
    with pytest.raises(TrainingError, match=r"step of 8 pictures .* \(operation not permitted\); set graphs = false"):
        learner.warm_up()


def test_losses_of_recorded_steps_are_those_of_each(recording, tmp_path, monkeypatch):
    learner, batches = recording(Recorder())
    learner.warm_up()
    config = replace(learner.config, images=8, log_every=4, save_every=100, show_every=100)
    monkeypatch.setattr(loop, "_waits", lambda trained: False)  # as on a GPU: looked at when a line is due
    folder, each = RunFolder(tmp_path / "run", config), []

    def loss_at(step: int) -> torch.Tensor:
        loss = learner.loss(batches(step, 0.0))
        each.append(loss.item())
        return loss

    with folder.begun():
        run_steps(
            folder, learner.optimizer, first=0, loss_at=loss_at, state=learner.checkpoint, show=lambda done: {},
            progress=lambda line: None,
        )  # fmt: skip
    (row,) = map(json.loads, (folder.path / "log.jsonl").read_text().splitlines())
    assert len(set(each)) == 4
    assert row["loss"] == pytest.approx(sum(each) / 4, abs=1e-5)


def test_graphs_that_can_not_be_had_are_told():
    learner, _ = learner_and_batches(replace(CONFIG, compile=False, graphs=True))
    told: list[str] = []
    learner.warm_up(progress=told.append)
    assert told == ["graphs are recorded on CUDA devices alone, and this run is on the device cpu"]
