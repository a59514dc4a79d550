import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES, IN_ONE_FILE, our_networks, tiny_unet
from torch import Tensor

from sfumato.checkpoints.card import Card
from sfumato.checkpoints.components import TEXT_ENCODER, UNET, VAE
from sfumato.checkpoints.convert import save_model
from sfumato.checkpoints.diffusers_layout import unet_keys
from sfumato.checkpoints.filling import save_weights
from sfumato.checkpoints.ldm_layout import ldm_unet_keys
from sfumato.checkpoints.openclip_layout import openclip_text_keys
from sfumato.checkpoints.single_file import open_single_file
from sfumato.checkpoints.single_saving import save_single_file
from sfumato.checkpoints.sizes import DIFFUSERS, LDM, settled, unet_sizes
from sfumato.errors import ConfigError, CorruptFileError, KeyMismatchError, OptionError, OutputError, UnsupportedError
from sfumato.models import TextEncoding
from sfumato.text.tokenizer import Tokenizer

LEFTOVERS = {
    "betas": torch.rand(10), "alphas_cumprod": torch.rand(10), "model_ema.decay": torch.tensor(0.99),
    "model_ema.num_updates": torch.tensor(3), "cond_stage_model.logit_scale": torch.tensor(1.0),
    "first_stage_model.loss.logvar": torch.tensor(0.0),
}  # fmt: skip


def save(path: Path, name: str, networks: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    family = FAMILIES[name]
    networks = our_networks(family) if networks is None else networks
    save_single_file(path, **networks, scheduler_config=family.scheduler, family=family, **options)
    return networks


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor] | None], **metadata: str) -> None:
    """The file as another program would have it: without the metadata of ours."""
    tensors = load_file(path)
    tensors = change(tensors) or tensors
    save_file(tensors, path, metadata=metadata or None)


def assert_same(loaded: Any, networks: dict[str, Any], *names: str) -> None:
    for name in names or networks:
        found, expected = getattr(loaded, name).state_dict(), networks[name].state_dict()
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert torch.equal(found[key], tensor), (name, key)


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("single") / "sd1.safetensors"
    return path, save(path, "sd1")


@pytest.fixture
def file(sd1: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(sd1[0].read_bytes())
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", IN_ONE_FILE)
def test_every_family_comes_back_from_keys_and_shapes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    networks = save(path, name)
    with_metadata = open_single_file(path)
    assert_same(with_metadata, networks)
    assert with_metadata.unet.config == networks["unet"].config

    rewrite(path, lambda tensors: tensors | LEFTOVERS)
    family = FAMILIES[name]
    undecided = {"sd2": "sd2-v", "sd-turbo": "sd2-v", "sdxl-turbo": "sdxl"}
    found = open_single_file(path)
    assert found.family.name == undecided.get(name, name)
    assert_same(found, networks)
    said = open_single_file(path, family=name)
    assert said.family is family
    tiny = tiny_unet(family)
    depth = tuple(deep if attends else 1 for deep, attends in zip(tiny.depth[:-1], tiny.attention, strict=False))
    like = replace(tiny, sample_size=family.unet.sample_size, depth=(*depth, tiny.depth[-1]))
    assert said.unet.config == like
    assert said.vae.config.scaling_factor == family.vae.scaling_factor
    assert {name: network.config for name, network in said.networks.items() if "text" in name} == {
        name: networks[name].config for name in family.text_encoders
    }
    assert said.scheduler_config == family.scheduler
    assert said.options == family.options
    assert (said.low_res_scheduler is None) == (name != "x4-upscaler")
    assert {name: said.tokenizer(name).spec.pad for name in said.tokenizers} == family.padding
    assert said.layout == "ldm"


def test_what_no_tensor_says_is_asked_of_options_metadata_and_configs_beside(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(path, "sd2")
    unsaid = open_single_file
    rewrite(path, lambda tensors: None)
    assert unsaid(path).scheduler_config["prediction_type"] == "v_prediction"
    assert "taken for v_prediction" in unsaid(path).detected.reasons[-1]
    assert unsaid(path, prediction_type="epsilon").family is FAMILIES["sd2"]
    assert unsaid(path, family="sd2").scheduler_config["prediction_type"] == "epsilon"
    rewrite(path, lambda tensors: None, **{"modelspec.prediction_type": "epsilon"})
    assert unsaid(path).family is FAMILIES["sd2"]
    rewrite(path, lambda tensors: None)
    yaml = path.with_suffix(".yaml")
    yaml.write_text('model:\n  params:\n    parameterization: "v"\n')
    assert unsaid(path).family is FAMILIES["sd2-v"]
    yaml.write_text("model:\n  params:\n    linear_start: 0.00085\n")
    assert unsaid(path).family is FAMILIES["sd2"]
    yaml.rename(tmp_path / "other.yaml")
    assert unsaid(path, original_config=tmp_path / "other.yaml").family is FAMILIES["sd2"]
    rewrite(path, lambda tensors: tensors | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)})
    config = unsaid(path, family="sd2").scheduler_config
    assert (config["prediction_type"], config["rescale_betas_zero_snr"]) == ("v_prediction", True)
    with pytest.raises(OptionError, match="prediction_type is 'flow'; expected epsilon"):
        unsaid(path, prediction_type="flow")
    with pytest.raises(OptionError, match="no family 'sd4'; known: sd1"):
        unsaid(path, family="sd4")
    with pytest.raises(OptionError, match=r"original_config is 'nowhere.yaml', which is no file"):
        unsaid(path, original_config="nowhere.yaml")
    with pytest.raises(
        ConfigError, match=r"model.safetensors: this model is not of the family sd1: linear projections"
    ):
        unsaid(path, family="sd1")


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_pickled_checkpoints(
    file: Path, sd1: tuple[Path, dict[str, Any]], wrapped: bool, old: bool, tmp_path: Path
) -> None:
    tensors = load_file(file) | LEFTOVERS
    values = {"state_dict": tensors, "global_step": 470000, "epoch": 1} if wrapped else tensors
    torch.save(values, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not old)
    assert_same(open_single_file(tmp_path / "model.ckpt"), sd1[1])


@pytest.mark.parametrize("name", IN_ONE_FILE)
def test_every_family_in_a_training_checkpoint(name: str, tmp_path: Path) -> None:
    """A pickle with the state of the training, the U-Net twice, and the tables of the schedule; in both of torch.save's formats."""
    networks = save(tmp_path / "model.safetensors", name)
    tensors = load_file(tmp_path / "model.safetensors") | LEFTOVERS
    unet = {key: t for key, t in tensors.items() if key.startswith("model.diffusion_model.")}
    tensors |= {f"model_ema.{key.removeprefix('model.').replace('.', '')}": t + 1 for key, t in unet.items()}
    values = {"state_dict": tensors, "epoch": 3, "optimizer_states": [{"state": {0: {"exp_avg": torch.rand(3)}}}]}
    old = list(FAMILIES).index(name) % 2 == 0
    torch.save(values, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not old)
    assert_same(open_single_file(tmp_path / "model.ckpt", family=name), networks)
    averaged = open_single_file(tmp_path / "model.ckpt", family=name, averaged=True)
    weights = averaged.unet.state_dict()
    for key, tensor in networks["unet"].state_dict().items():
        assert torch.equal(weights[key], tensor + 1)


def test_averages_of_training_are_left_alone_unless_they_are_asked_for(
    file: Path, sd1: tuple[Path, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    def with_average(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        unet = {name: t for name, t in tensors.items() if name.startswith("model.diffusion_model.")}
        flat = {f"model_ema.{name.removeprefix('model.').replace('.', '')}": t + 1 for name, t in unet.items()}
        return tensors | flat | {"model_ema.decay": torch.tensor(0.9999)}

    with pytest.raises(OptionError, match="holds no averages of training"):
        open_single_file(file, averaged=True)
    rewrite(file, with_average)
    assert_same(open_single_file(file), sd1[1])
    assert "model.safetensors also holds its U-Net averaged over training (EMA), which is left alone" in caplog.text
    caplog.clear()
    open_single_file(file, components=["vae"])
    averaged = open_single_file(file, averaged=True)
    assert caplog.text == ""
    assert_same(averaged, sd1[1], "vae", "text_encoder")
    weights = averaged.unet.state_dict()
    for key, tensor in sd1[1]["unet"].state_dict().items():
        assert torch.equal(weights[key], tensor + 1)


def test_networks_alone_and_those_not_wanted(file: Path, sd1: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    networks = sd1[1]
    wanted = open_single_file(file, components=["unet", "text_encoder"])
    assert wanted.vae is None
    assert_same(wanted, networks, "unet", "text_encoder")
    for name, prefix in (("unet", "model.diffusion_model."), ("vae", "first_stage_model.")):
        tensors = {key.removeprefix(prefix): t for key, t in load_file(file).items() if key.startswith(prefix)}
        save_file(tensors, tmp_path / f"{name}.safetensors")
        loaded = open_single_file(tmp_path / f"{name}.safetensors")
        assert loaded.networks.keys() == {name}
        assert_same(loaded, networks, name)
        assert loaded.layout == "ldm"
    assert "holds no U-Net, only: vae" in loaded.detected.reasons[0]


@pytest.mark.parametrize("component", [UNET, VAE, TEXT_ENCODER], ids=lambda component: component.name)
def test_a_component_of_a_folder_alone(component: Any, sd1: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    component.save(sd1[1][component.name], tmp_path / "it")
    loaded = open_single_file(tmp_path / "it" / f"{component.stem}.safetensors")
    assert loaded.layout == "diffusers"
    assert_same(loaded, sd1[1], component.name)


def test_the_upscalers_autoencoder_and_openclip_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    networks = save(path, "x4-upscaler")
    rewrite(path, lambda t: {name: x for name, x in t.items() if name.startswith("first_stage")})
    vae = open_single_file(path)
    assert vae.vae.config.scaling_factor == FAMILIES["sd1"].vae.scaling_factor, "told by the released sizes alone"
    path.unlink()
    save(path, "x4-upscaler", networks)
    rewrite(path, lambda t: {name: x for name, x in t.items() if name.startswith("cond_stage")})
    text = open_single_file(path)
    assert text.family is FAMILIES["sd2"]
    assert text.text_encoder.config.activation == "gelu"


@pytest.mark.parametrize("layout", ["transformers", "openclip"])
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_a_text_encoder_alone_is_told_by_its_width(name: str, layout: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    part, released = list(family.text_encoders.items())[-1]
    if layout == "openclip" and name == "sd1":
        return  # OpenCLIP's are the others
    config = replace(released, layers=1, vocab_size=8, mlp_width=8, eos_token_id=7)
    network = TEXT_ENCODER.build(config).half()
    if layout == "transformers":
        TEXT_ENCODER.save(network, tmp_path / "it")
        path = tmp_path / "it" / "model.safetensors"
    else:
        path = tmp_path / "open_clip_model.safetensors"
        save_weights(network, path, openclip_text_keys(config))
        # OpenCLIP's own files hold the other half too.
        rewrite(path, lambda t: t | {"visual.conv1.weight": torch.rand(1), "logit_scale": torch.tensor(1.0)})
    loaded = open_single_file(path)
    assert loaded.family is family
    assert loaded.networks.keys() == {part}
    found = loaded.networks[part]
    assert found.config == replace(config, eos_token_id=released.eos_token_id)
    assert_same(loaded, {part: network})
    save_model(loaded, tmp_path / "folder", layout="diffusers")
    assert_same(open_single_file(tmp_path / "folder" / "model.safetensors"), {part: network})


def test_text_encoders_as_other_programs_write_them(
    file: Path, sd1: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    def without_text_model(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        named = {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in tensors.items()}
        return named | {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)}

    rewrite(file, without_text_model)
    assert_same(open_single_file(file), sd1[1])

    path = tmp_path / "sd2.safetensors"
    networks = save(path, "sd2")

    def unread_ends(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        last = {name: t for name, t in tensors.items() if "resblocks.2." in name}
        # 24 layers, of which the last is never read; and the rest of OpenCLIP's text tower.
        more = {
            name.replace("resblocks.2.", f"resblocks.{at}."): t.clone()
            for name, t in last.items()
            for at in range(3, 24)
        }
        return tensors | more | {
            "cond_stage_model.model.text_projection": torch.rand(64, 64),
            "cond_stage_model.model.logit_scale": torch.tensor(1.0),
            "cond_stage_model.model.attn_mask": torch.zeros(77, 77),
        }  # fmt: skip

    rewrite(path, unread_ends)
    loaded = open_single_file(path)
    assert loaded.text_encoder.config.layers == 23
    tokens = torch.randint(0, 400, (1, 77))
    with torch.no_grad():
        read: TextEncoding = loaded.text_encoder(tokens)
    assert read.hidden.shape == (1, 77, 64)
    assert torch.equal(
        loaded.text_encoder.state_dict()["layers.2.to_q.weight"],
        networks["text_encoder"].state_dict()["layers.2.to_q.weight"],
    )


def test_one_error_says_all_that_is_amiss(file: Path) -> None:
    def damage(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        del tensors["first_stage_model.quant_conv.bias"], tensors["model.diffusion_model.out.2.bias"]
        tensors["model.diffusion_model.time_embed.0.weight"] = torch.zeros(3, 3)
        return tensors | {"model.diffusion_model.extra": torch.zeros(1), "who_knows": torch.zeros(1)}

    rewrite(file, damage)
    with pytest.raises(KeyMismatchError) as caught:
        open_single_file(file)
    message = str(caught.value)
    assert "does not fit what it was taken for (Stable Diffusion 1)" in message
    assert "2 missing (first_stage_model.quant_conv.bias, model.diffusion_model.out.2.bias)" in message
    assert "2 unexpected (model.diffusion_model.extra, who_knows)" in message
    assert "model.diffusion_model.time_embed.0.weight is [3, 3], not [128, 32]" in message
    assert "\n" not in message


def test_hundreds_of_tensors_amiss_are_grouped(file: Path) -> None:
    def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        names = ("model.diffusion_model.output_blocks.", "first_stage_model.decoder.up.")
        return {
            next((f"other.{name}" for start in names if name.startswith(start)), name): t for name, t in tensors.items()
        }

    rewrite(file, renamed)
    with pytest.raises(KeyMismatchError) as caught:
        open_single_file(file)
    message = str(caught.value)
    assert len(message) < 1000
    for kind, prefix in (("missing", ""), ("unexpected", "other.")):
        assert re.search(
            rf"1\d\d {kind} \(\d+ in {prefix}model.diffusion_model.output_blocks, \d+ in {prefix}first_stage_model.decoder.up; "
            rf"the first is {prefix}first_stage_model",
            message,
        ), message


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora_unet_down_blocks_0.lora_down.weight"], r"an adapter \(LoRA\): open the model it is for"),
        (["unet.down.to_k.lora.down.weight"], r"an adapter \(LoRA\)"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["model.diffusion_model.joint_blocks.0.x"], "Stable Diffusion 3"),
        (["double_blocks.0.img_attn.qkv.weight"], "a model of Flux's kind"),
        (["emb_params"], "a textual inversion"),
        (["edm_vpred.sigma_max", "model.diffusion_model.input_blocks.0.0.weight"], "CosXL, whose noise"),
        (["1.weight", "3.conv.0.weight"], r"the decoder of a tiny autoencoder \(TAESD or TAESDXL\); .*open_tiny_files"),
        (["0.weight", "1.conv.0.weight"], "the encoder of a tiny autoencoder"),
        (["decoder.layers.0.weight", "encoder.layers.0.weight"], "a tiny autoencoder, as diffusers names it"),
        (["edm_mean", "model.diffusion_model.input_blocks.0.0.weight"], r"Playground 2\.5"),
        (["model_ema.diffusion_modelinput_blocks00weight"], "only averages of training"),
        (["something"], r"no network of Stable Diffusion: 1 tensors \(something\)"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "its U-Net has no out.2.weight"),
    ],
)
def test_what_a_file_is_instead(names: list[str], message: str, tmp_path: Path) -> None:
    save_file({name: torch.zeros(4, 4, 1, 1) for name in names}, tmp_path / "it.safetensors")
    with pytest.raises(ConfigError, match=message) as caught:
        open_single_file(tmp_path / "it.safetensors")
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "sdxl-refiner", "x4-upscaler"])
@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
def test_the_released_unets_are_told_in_full(name: str, layout: str) -> None:
    config = FAMILIES[name].unet
    with torch.device("meta"):
        tensors = UNET.build(config).state_dict()
    keys = (ldm_unet_keys if layout == "ldm" else unet_keys)(config)
    shapes = {keys.to_theirs(key): list(tensor.shape) for key, tensor in tensors.items()}
    assert settled(unet_sizes(shapes, LDM if layout == "ldm" else DIFFUSERS), FAMILIES[name]) == config


def test_unets_that_are_built_in_no_regular_way(file: Path) -> None:
    def thinner(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors["model.diffusion_model.input_blocks.3.0.in_layers.2.weight"] = torch.zeros(48, 32, 3, 3)
        more = "model.diffusion_model.input_blocks.2.0.in_layers.2.weight"
        return {name: t for name, t in tensors.items() if ".0.op." not in name} | {more: torch.zeros(16, 32, 3, 3)}

    rewrite(file, thinner)
    with pytest.raises(ConfigError, match="blocks of its U-Net differ within a level"):
        open_single_file(file)


def test_nothing_is_lost_in_a_file_that_we_write(tmp_path: Path) -> None:
    family = FAMILIES["sd1"]
    networks = our_networks(family)
    unet = replace(tiny_unet(family), heads=(2, 4), norm_groups=16, sample_size=24)
    torch.manual_seed(1)
    networks["unet"] = UNET.build(unet)
    tokenizer = Tokenizer.bundled_clip().reduced(["a red apple"], base_merges=20)
    networks["text_encoder"] = TEXT_ENCODER.build(
        replace(networks["text_encoder"].config, vocab_size=tokenizer.vocab_size, eos_token_id=tokenizer.end_id)
    )
    card = Card(settings={"guidance_scale": 3.0}, vocabulary=("apple",), words=("a", "red"))
    path = tmp_path / "model.safetensors"
    scheduler = dict(family.scheduler) | {"prediction_type": "v_prediction"}
    save_single_file(
        path, **networks, scheduler_config=scheduler, tokenizers={"tokenizer": tokenizer}, card=card,
        options={"requires_safety_checker": True},
    )  # fmt: skip
    loaded = open_single_file(path)
    assert_same(loaded, networks)
    assert loaded.unet.config == unet
    assert loaded.tokenizer().spec == tokenizer.spec
    assert loaded.card == card
    assert loaded.scheduler_config == scheduler
    assert loaded.options == {"requires_safety_checker": True}
    # Without it, what can't be told is not guessed.
    rewrite(path, lambda tensors: None)
    assert open_single_file(path).tokenizer() is None


def test_damaged_metadata_is_refused(file: Path) -> None:
    for entries, message in (
        ({"sfumato/unet/config.json": "{"}, "unet/config.json in its metadata is not JSON"),
        ({"sfumato/vae/config.json": "[]"}, "in its metadata is a list; expected a JSON object"),
        ({"sfumato/sfumato.json": "[1]"}, "must hold numbers"),
    ):
        save_file(load_file(file), file, metadata=entries)
        with pytest.raises(ConfigError, match=message):
            open_single_file(file)
    # Names that lead elsewhere are nobody's.
    save_file(load_file(file), file, metadata={"sfumato/tokenizer/../../evil": "x", "sfumato/../evil": "x"})
    assert open_single_file(file).tokenizer() is not None
    assert not (file.parent.parent / "evil").exists()


def test_configs_of_a_folder_fit_the_file(file: Path, sd1: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    rewrite(file, lambda tensors: None)
    for component in (UNET, VAE, TEXT_ENCODER):
        component.save(sd1[1][component.name], tmp_path / "configs" / component.name)
    loaded = open_single_file(file, config=tmp_path / "configs")
    assert loaded.unet.config == sd1[1]["unet"].config
    with pytest.raises(ConfigError, match=r"has no unet/config\.json"):
        open_single_file(file, config=tmp_path)


def test_saving(sd1: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save(path, "sd1", sd1[1], dtype=torch.float16)
    assert open_single_file(path).unet.dtype == torch.float16
    assert open_single_file(path, dtype=torch.float32).unet.dtype == torch.float32
    with safe_open(path, framework="pt") as opened:
        assert opened.metadata()["format"] == "pt"
        assert not any("tokenizer" in name for name in opened.metadata())
    with pytest.raises(OutputError, match="exists already"):
        save(path, "sd1", sd1[1])
    save(path, "sd1", sd1[1], overwrite=True)
    with pytest.raises(OptionError, match=r"ends in \.safetensors"):
        save(tmp_path / "model.ckpt", "sd1", sd1[1])
    with pytest.raises(UnsupportedError, match="Stable Diffusion 1 has no text_encoder_2"):
        save(tmp_path / "two.safetensors", "sd1", sd1[1] | {"text_encoder_2": sd1[1]["text_encoder"]})
    told = UNET.build(replace(tiny_unet(FAMILIES["sd1"]), text_heads=1))
    with pytest.raises(UnsupportedError, match=r"no place for the tensor unet\.text_embedding.*layout diffusers"):
        save(tmp_path / "told.safetensors", "sd1", sd1[1] | {"unet": told})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["half.safetensors"]


def test_a_file_cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorruptFileError):
        open_single_file(file)
