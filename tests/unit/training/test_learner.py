"""What is made ready before a run's clock starts is what the run then uses: nothing is compiled, or recorded, twice."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sfumato.models import UNetConfig
from sfumato.training.base_config import BaseTrainConfig, TextSizes
from sfumato.training.learner import Learner
from sfumato.training.objective import Batches
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
    """Stands for CUDA's recorder: keeps what it is given, or refuses."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.steps: list[nn.Module] = []
        self.sizes: list[int] = []

    def __call__(self, step: nn.Module, batch: tuple[torch.Tensor, ...], **options: Any) -> nn.Module:
        if self.refusal:
            raise RuntimeError(self.refusal)
        assert options == {"allow_unused_input": True}
        self.steps.append(step)
        self.sizes.append(len(batch[0]))
        return step


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
    assert recorder.sizes == [8, 2]
    used: list[int] = []
    for step in recorder.steps:
        step.register_forward_hook(lambda module, given, answer: used.append(len(given[0])))
    for step, done in ((0, 0.0), (1, 0.6)):
        assert take(learner, batches, step, done) == take(plain, same_batches, step, done)
    assert used == [8, 2]


def test_a_step_that_can_not_be_recorded_is_taken_as_it_is(recording):
    learner, batches = recording(Recorder("operation not permitted"))
    told: list[str] = []
    learner.warm_up(told.append)
    assert [line.split(" are not recorded")[0] for line in told] == ["steps of 8 pictures", "steps of 2 pictures"]
    assert "operation not permitted" in told[0]
    assert take(learner, batches, 0, 0.0) > 0
