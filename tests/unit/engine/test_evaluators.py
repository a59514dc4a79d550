"""The seam between the engine and what evaluates networks: the same numbers whatever evaluates them, and eager PyTorch where nothing else can."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from tiny_engine import TINY
from torch import Tensor

from sfumato.engine.evaluators import Evaluation, Prepared, Task, choosing, decoder_task, engine_for, unet_task
from sfumato.engine.evaluators.compiled import artefacts_of
from sfumato.engine.evaluators.evaluation import KEPT
from sfumato.engine.evaluators.storage import engines_folder, weights_hash, whole_folder
from sfumato.errors import EngineError, OptionError, UnknownNameError
from sfumato.models import AutoencoderKL, VAEConfig
from sfumato.models.convolution import wrapping
from sfumato.models.freeu import FreeU
from sfumato.models.unet import UNet


@dataclass
class Direct:
    """An engine that calls the task's function as one that traces it would; `spoil` makes it wrong."""

    name: str = "openvino"
    spoil: Callable[[Tensor], Tensor] = lambda answer: answer
    prepared: list[Task] = field(default_factory=list)
    answered: int = 0

    def prepare(self, task: Task) -> Callable[[Sequence[Tensor]], Tensor]:
        self.prepared.append(task)

        def answer(inputs: Sequence[Tensor]) -> Tensor:
            self.answered += 1
            return self.spoil(task.function(task.network, task.form, *inputs))

        return answer


@pytest.fixture
def unet() -> UNet:
    torch.manual_seed(0)
    network = UNet(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.2)
    return network


def task_of(unet: UNet, rows: int = 2, size: tuple[int, int] = (8, 8), **changes: object) -> Task:
    generator = torch.Generator().manual_seed(1)
    keys_values = unet.keys_values(torch.randn(rows, 5, 12, generator=generator))
    x = torch.randn(rows, 4, *size, generator=generator)
    return unet_task(unet, x, torch.linspace(1, 900, rows), keys_values, changes)


def test_an_engine_is_made_ready_once_a_shape_and_again_when_the_weights_change(unet: UNet) -> None:
    direct = Direct()
    evaluation = Evaluation(Prepared(direct))
    for _ in range(2):
        for rows in (2, 1):
            task = task_of(unet, rows)
            assert torch.equal(evaluation(task), task.eagerly())
    assert (len(direct.prepared), direct.answered) == (2, 4)
    with torch.no_grad():
        unet.conv_out.weight.mul_(2)
    evaluation(task_of(unet))
    unet.set_attention_slicing(1)
    evaluation(task_of(unet))
    assert len(direct.prepared) == 4
    assert evaluation.notes == []


def test_few_shapes_are_kept_ready(unet: UNet) -> None:
    direct = Direct()
    engine = Prepared(direct)
    sizes = [(4, 4 + 2 * place) for place in range(KEPT + 1)]
    for size in [*sizes, sizes[-1], sizes[0]]:
        engine.answer(task_of(unet, size=size))
    assert len(direct.prepared) == KEPT + 2


@pytest.mark.parametrize("spoil", [lambda x: x * 1.01, lambda x: x * float("nan"), lambda x: x[:1]])
def test_a_wrong_answer_is_found_at_its_first_use_and_not_given(unet: UNet, spoil: Callable[[Tensor], Tensor]) -> None:
    direct = Direct(spoil=spoil)
    evaluation = Evaluation(Prepared(direct))
    task = task_of(unet)
    assert torch.equal(evaluation(task), task.eagerly())
    assert torch.equal(evaluation(task), task.eagerly())
    assert len(evaluation.notes) == 1
    assert "the UNet was evaluated eagerly instead, because its answer differed from eager" in evaluation.notes[0]
    assert direct.answered == 1, "it is not asked again"


def test_an_engine_that_fails_leaves_the_answer_to_pytorch(unet: UNet) -> None:
    class Failing(Direct):
        def prepare(self, task: Task) -> Callable[[Sequence[Tensor]], Tensor]:
            raise RuntimeError("\nno such operation.\nmore")

    evaluation = Evaluation(Prepared(Failing()))
    task = task_of(unet)
    assert torch.equal(evaluation(task), task.eagerly())
    assert evaluation.notes == [
        "engine openvino: the UNet was evaluated eagerly instead, because RuntimeError: no such operation"
    ]


def test_what_changes_a_network_for_one_evaluation_is_evaluated_eagerly(unet: UNet) -> None:
    direct = Direct()
    evaluation = Evaluation(Prepared(direct))
    perturbed = unet.perturbing(unet.self_attentions(), [False, True])
    freeu = FreeU(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    for task in (task_of(unet, perturbed=perturbed), task_of(unet, freeu=freeu), task_of(unet, another=None)):
        if task.changes != ("another",):
            assert torch.equal(evaluation(task), task.eagerly())
            assert not torch.equal(evaluation(task), task_of(unet).eagerly())
        else:
            with pytest.raises(TypeError, match="another"):
                evaluation(task)
    with wrapping(frozenset({-1}), unet):
        wrapped = evaluation(task_of(unet))
    assert not torch.equal(wrapped, task_of(unet).eagerly())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        evaluation(task_of(unet))
    heard: list[object] = []
    handle = unet.conv_in.register_forward_hook(lambda *_: heard.append(None))
    evaluation(task_of(unet))
    handle.remove()
    assert (heard, direct.answered) == ([None], 0)
    reasons = "perturbed attention", "FreeU", "another", "a picture that wraps", "autocast", "hooks on the network's"
    for reason, note in zip(reasons, evaluation.notes, strict=True):
        assert reason in note
    evaluation(task_of(unet))
    assert direct.answered == 1, "and by the engine again once nothing changes it"


def test_layers_that_were_exchanged_are_not_handed_over(unet: UNet) -> None:
    class Other(torch.nn.Conv2d):
        pass

    unet.conv_in = Other(4, 8, 3, padding=1)
    evaluation = Evaluation(Prepared(Direct()))
    evaluation(task_of(unet))
    assert "layers of another kind (Other)" in evaluation.notes[0]


def test_a_decoder_goes_through_the_same_seam() -> None:
    torch.manual_seed(0)
    config = VAEConfig(channels=(8, 8), blocks_per_level=1, norm_groups=4, sample_size=16)
    vae = AutoencoderKL(config).eval().requires_grad_(False)
    direct = Direct()
    latents = torch.randn(1, 4, 6, 8)
    assert torch.equal(Evaluation(Prepared(direct))(decoder_task(vae, latents)), vae.decode_whole(latents))
    assert direct.answered == 1


def test_engines_have_names() -> None:
    assert engine_for("eager") is None
    assert Evaluation().name == "eager"
    with pytest.raises(UnknownNameError, match="did you mean openvino"):
        engine_for("openvin")
    with pytest.raises(OptionError, match="not 3"):
        engine_for(3)


def test_an_absent_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(EngineError, match=r"pip install 'sfumato\[openvino\]'"):
        engine_for("openvino")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(EngineError, match="install g\\+\\+ or clang"):
        engine_for("compile")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="no CUDA device"):
        engine_for("graphs")


@pytest.mark.parametrize(("share", "chosen"), [(0.5, "openvino"), (0.95, "eager"), (2.0, "eager")])
def test_auto_takes_what_is_clearly_faster_and_says_why(
    unet: UNet, monkeypatch: pytest.MonkeyPatch, share: float, chosen: str
) -> None:
    monkeypatch.setitem(choosing.KINDS, "openvino", Direct)
    monkeypatch.setattr(choosing, "seconds", lambda task, engine: 1.0 if engine is None else share)
    auto = engine_for("auto")
    for _ in range(2):
        evaluation = Evaluation(auto)
        task = task_of(unet)
        assert torch.equal(evaluation(task), task.eagerly())
        assert evaluation.name == chosen
        assert f"engine auto: {chosen}, for an evaluation takes {share:g} s by openvino and 1 s" in evaluation.notes[0]


def test_auto_is_eager_where_nothing_else_is_installed_or_right(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    evaluation = Evaluation(engine_for("auto"))
    evaluation(task_of(unet))
    assert (evaluation.name, evaluation.notes) == ("eager", ["engine auto: eager, for no other is installed here"])
    monkeypatch.setitem(choosing.KINDS, "openvino", lambda: Direct(spoil=lambda x: -x))
    evaluation = Evaluation(engine_for("auto"))
    evaluation(task_of(unet))
    assert evaluation.name == "eager"
    assert "openvino failed: its answer differed" in evaluation.notes[0]


def test_what_is_kept_is_found_by_what_it_was_made_from(unet: UNet, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    assert engines_folder() == tmp_path / "engines"
    of_weights, of_shapes = weights_hash(unet, 1), artefacts_of(task_of(unet))
    assert weights_hash(unet, 2) != of_weights
    with torch.no_grad():
        unet.conv_out.weight[0, 0, 0, 0] += 1
    assert weights_hash(unet, 1) != of_weights
    assert artefacts_of(task_of(unet)) == of_shapes != artefacts_of(task_of(unet, rows=1))
    for contents in ("a", "b"):
        with whole_folder(tmp_path / "made") as folder:
            (folder / "file").write_text(contents)
    assert (tmp_path / "made" / "file").read_text() == "a"
    with pytest.raises(ValueError, match="stopped"), whole_folder(tmp_path / "other"):
        raise ValueError("stopped")
    assert [each.name for each in tmp_path.iterdir()] == ["made"]
