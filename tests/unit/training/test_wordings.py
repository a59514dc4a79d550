"""A text encoder learns to read in other wordings what it reads in plain ones, and nothing else of the model changes."""

import json
from pathlib import Path

import pytest
import torch

from sfumato.checkpoints import open_folder
from sfumato.checkpoints.card import Card
from sfumato.diffusion.noise_schedule import NoiseSchedule
from sfumato.errors import TrainingError
from sfumato.models import UNet, UNetConfig
from sfumato.training.export import export
from sfumato.training.run import step_generator
from sfumato.training.wordings import Reader, distance, queries_of, train

from .conftest import say_nothing, write_toy_dataset

CONFIG = """
data = "{data}"
start_from = "{model}"
images = {images}
batch = 8
scenes = 24
captions = 4
queries = 16
average_decay = 0.5
save_every = 4
show_every = 4
log_every = 4
[learning_rate]
peak = 0.01
warmup = 0
decay = 0.0
[mix]
strange = 0.5
"""


@pytest.fixture(scope="module")
def model(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "model"
    return export(finished / "base.toml", finished / "base", folder, steps=7, notes={"note": 1})


def config(finished: Path, model: Path, folder: Path, images: int = 320) -> Path:
    path = folder / "wordings-8.toml"
    path.write_text(CONFIG.format(data=finished / "art-16.safetensors", model=model, images=images))
    return path


def test_wordings_come_nearer_and_only_the_text_encoder_changes(finished, model, tmp_path):
    told: list[str] = []
    left = train(config(finished, model, tmp_path), tmp_path / "run", progress=told.append)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (at_first,) = [float(line.split()[1]) for line in told if line.startswith("wordings_apart")]
    assert {"wordings_apart", "plain_apart", "empty_apart"} <= rows[-1].keys()
    assert rows[-1]["empty_apart"] < 0.5 * at_first
    (*_, at_last) = [row["wordings_apart"] for row in rows if "wordings_apart" in row]
    assert at_last < 0.7 * at_first
    before, after = open_folder(model), open_folder(left)
    for name in ("unet", "vae"):
        weights = after.networks[name].state_dict()
        assert all(torch.equal(weights[key], weight) for key, weight in before.networks[name].state_dict().items())
    assert not torch.equal(after.text_encoder.layers[0].to_q.weight, before.text_encoder.layers[0].to_q.weight)
    assert after.tokenizer().spec == before.tokenizer().spec
    assert after.scheduler_config == before.scheduler_config
    was, now = Card.read(model), Card.read(left)
    assert now.settings == was.settings
    assert now.vocabulary == was.vocabulary
    assert set(was.words) <= set(now.words)
    assert "website" in now.words
    assert "apples" not in set(now.words) - set(was.words)


def test_a_run_that_was_stopped_ends_with_the_same_weights(finished, model, tmp_path):
    for images in (48, 96):
        stopped = train(config(finished, model, tmp_path, images), tmp_path / "stopped", progress=say_nothing)
    straight = train(config(finished, model, tmp_path, 96), tmp_path / "straight", progress=say_nothing)
    file = "text_encoder/model.safetensors"
    assert (stopped / file).read_bytes() == (straight / file).read_bytes()


def test_every_other_part_of_a_model_stays_as_it_is(tiny_folder_with_checker, tmp_path):
    """One in float32, with a safety checker, that does not say which words it knows."""
    write_toy_dataset(tmp_path / "art-16.safetensors", size=64)
    left = train(config(tmp_path, tiny_folder_with_checker, tmp_path, 16), tmp_path / "run", progress=say_nothing)
    before, after = open_folder(tiny_folder_with_checker), open_folder(left)
    assert after.networks.keys() == before.networks.keys() >= {"safety_checker"}
    for name, network in before.networks.items():
        weights = after.networks[name].state_dict()
        same = [torch.equal(weights[key], weight) for key, weight in network.state_dict().items()]
        assert all(same) == (name != "text_encoder"), name
    assert not (left / "words.txt").exists()


def test_a_model_of_two_text_encoders_is_refused(finished, family_folders, tmp_path):
    path = config(finished, family_folders("sdxl"), tmp_path)
    with pytest.raises(TrainingError, match="is no model of one text encoder"):
        train(path, tmp_path / "run", progress=say_nothing)
    assert not (tmp_path / "run").exists()


def test_art_of_another_size_is_refused(model, tmp_path):
    write_toy_dataset(tmp_path / "art-16.safetensors", size=32)
    with pytest.raises(TrainingError, match=r"draws 16 × 16 .* is 32 × 32"):
        train(config(tmp_path, model, tmp_path), tmp_path / "run", progress=say_nothing)


@pytest.mark.parametrize(
    "line", ["batch = 1", 'precision = "bfloat16"', "compile = true", "workers = 2", "queries = 0"]
)
def test_what_such_a_run_does_not_have_is_refused(finished, model, tmp_path, line):
    path = config(finished, model, tmp_path)
    name = line.split()[0]
    kept = [one for one in path.read_text().splitlines() if not one.startswith(f"{name} ")]
    path.write_text("\n".join([line, *kept]))
    with pytest.raises(TrainingError, match=f"{name} is"):
        train(path, tmp_path / "run", progress=say_nothing)


def small_unet() -> UNet:
    torch.manual_seed(0)
    unet = UNet(
        UNetConfig(
            channels=(8, 16), blocks_per_level=1, attention=(False, True), heads=(2, 2), depth=(1, 1), context_dim=12,
            norm_groups=4, sample_size=4, text_heads=2,
        )
    )  # fmt: skip
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return unet.eval()


@torch.no_grad()
def test_a_reader_answers_what_the_unet_s_attentions_do():
    unet, context = small_unet(), torch.randn(1, 5, 12)
    asked: list[torch.Tensor] = []
    answered: list[torch.Tensor] = []
    for layer in unet.cross_attentions():
        layer.to_q.register_forward_hook(lambda _module, _inputs, output: asked.append(output[0]))
        layer.register_forward_hook(lambda _module, _inputs, output: answered.append(output))
    unet(torch.randn(1, 4, 4, 4), 500.0, context)
    assert len(asked) == len(answered) == 4
    positions = 4
    read = Reader(unet, [queries[:positions] for queries in asked])(context, torch.arange(positions))
    for ours, theirs in zip(read, answered, strict=False):
        torch.testing.assert_close(ours, theirs[:, :positions])
    assert len(read) == 5
    torch.testing.assert_close(read[-1][:, 0], unet.keys_values(context).after)


def test_queries_are_those_of_every_layer_and_hooks_are_gone():
    unet = small_unet()
    asked: list[torch.Tensor] = []
    first = next(iter(unet.cross_attentions())).to_q
    handle = first.register_forward_hook(lambda _module, _inputs, output: asked.append(output[0]))
    found = queries_of(unet, torch.randn(2, 4, 4, 4), torch.randn(2, 5, 12), NoiseSchedule(), step_generator(0, 0))
    assert [tuple(queries.shape) for queries in found] == [(4096, 16)] * 4
    handle.remove()
    known = {tuple(row) for row in torch.cat(asked).tolist()}
    assert {tuple(row) for row in found[0].tolist()} == known
    assert len(known) == 8, "four positions of two pictures"
    assert not any(layer.to_q._forward_hooks for layer in unet.cross_attentions())


def test_distance_is_nothing_to_itself_and_one_to_the_mean():
    wanted = [torch.randn(6, 3, 4), torch.randn(6, 1, 5)]
    assert distance(wanted, wanted).tolist() == [0.0] * 6
    mean = [one.mean(0, keepdim=True).expand_as(one) for one in wanted]
    assert float(distance(mean, wanted).mean()) == pytest.approx(1.0)
