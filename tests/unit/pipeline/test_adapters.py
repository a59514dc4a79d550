"""Adapters at a pipeline: chosen per call, merged and unmerged, recorded and replayed, and found where people put them."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sfumato
from sfumato.checkpoints.diffusers_layout import text_keys, unet_keys
from sfumato.errors import (
    AdapterError,
    DownloadError,
    MissingFileError,
    OptionError,
    RecipeError,
    UnknownNameError,
    UnsupportedError,
    UsageError,
)
from sfumato.recipe import Recipe, UsedAdapter

RUN: dict[str, Any] = {"num_inference_steps": 2, "seeds": [1]}


def opened(folder: Path) -> Any:
    pipe = sfumato.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe(tiny_folder: Path) -> Any:
    return opened(tiny_folder)


@pytest.fixture(scope="module")
def loras(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two LoRAs of everything that attends, in kohya's dialect."""
    folder, pipe, files = tmp_path_factory.mktemp("loras"), opened(tiny_folder), dict[str, Path]()
    for seed, name in enumerate(("a", "b")):
        g, tensors = torch.Generator().manual_seed(seed), dict[str, torch.Tensor]()
        for prefix, network, keys in (
            ("lora_unet_", pipe.unet, unet_keys(pipe.unet.config)),
            ("lora_te_", pipe.text_encoder, text_keys(pipe.text_encoder.config)),
        ):
            for theirs, ours in keys.table:
                if "attn" in theirs and "norm" not in theirs:
                    out, into = network.get_submodule(ours).weight.shape
                    key = prefix + theirs.replace(".", "_")
                    tensors[f"{key}.lora_down.weight"] = torch.randn(4, into, generator=g) * 0.3
                    tensors[f"{key}.lora_up.weight"] = torch.randn(out, 4, generator=g) * 0.3
                    tensors[f"{key}.alpha"] = torch.tensor(2.0)
        files[name] = folder / f"{name}.safetensors"
        save_file(tensors, files[name])
    return files


def drawn(pipe: Any, **options: Any) -> np.ndarray:
    return pipe("a fox", output_type="np", **(RUN | options)).images


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_a_prompt_calls_adapters_by_name_with_its_own_weights(pipe: Any, loras: dict[str, Path]) -> None:
    pipe.load_lora_weights(loras["a"], adapter_name="a")
    pipe.load_lora_weights(loras["b"])  # as default_1; its file is b
    pipe.disable_lora()

    def called(prompt: str, **options: Any) -> Any:
        return pipe(prompt, emphasis="a1111", **(RUN | options))

    by_name = called("a fox<lora:a:0.5>", output_type="np").images
    assert np.array_equal(by_name, drawn(pipe, adapters={"a": 0.5}))
    both = called("<lora:a:0.2:0.7>a fox<lora:b:-0.4>", output_type="np").images
    weights = {"a": {"unet": 0.7, "text_encoder": 0.2}, pipe.get_active_adapters()[0]: -0.4}
    assert np.array_equal(both, drawn(pipe, adapters=weights))
    assert np.array_equal(called("a fox<lora:a:0>", output_type="np").images, drawn(pipe))
    # Without emphasis it is text.
    assert not np.array_equal(drawn(pipe), pipe("a fox<lora:a:0.5>", output_type="np", **RUN).images)

    pipe.set_adapters(["a"], [0.9])
    assert np.array_equal(called("a fox<lora:a:0.5>", output_type="np").images, by_name)
    recipe = called("a fox<lora:a:0.5>").images[0].recipe
    assert [(used.file, dict(used.weights)) for used in recipe.adapters] == [
        ("a.safetensors", {"unet": 0.5, "text_encoder": 0.5})
    ]
    pipe.disable_lora()
    assert pipe.replay(recipe).identical


def test_each_call_can_have_its_own_adapters_and_changes_nothing_for_the_next(
    pipe: Any, loras: dict[str, Path]
) -> None:
    plain = drawn(pipe)
    for name, path in loras.items():
        pipe.load_lora_weights(path, adapter_name=name)
    pictures = []
    for choice in ({"a": 1.0}, {"b": 0.5}, {"a": 0.3, "b": {"unet": 0.9, "text_encoder": 0.0}}):
        pipe.set_adapters(list(choice), list(choice.values()))
        expected = drawn(pipe)
        pipe.set_adapters("a", 0.123)
        got = drawn(pipe, adapters=choice)
        assert np.array_equal(got, expected)
        pictures.append(got)
    assert pipe.get_active_adapters() == ["a"]
    assert np.array_equal(drawn(pipe, adapters={}), plain)
    assert np.array_equal(drawn(pipe, adapters={"a": 0}), plain)
    assert not any(np.array_equal(a, b) for i, a in enumerate(pictures) for b in [plain, *pictures[:i]])


def test_scale_multiplies_all_weights(pipe: Any, loras: dict[str, Path]) -> None:
    pipe.load_lora_weights(loras["a"], adapter_name="a")
    half = drawn(pipe, cross_attention_kwargs={"scale": 0.5})
    assert np.array_equal(half, drawn(pipe, adapters={"a": 0.5}))


def test_what_is_no_adapter_weight_or_scale_is_said(pipe: Any, loras: dict[str, Path]) -> None:
    pipe.load_lora_weights(loras["a"], adapter_name="a")
    with pytest.raises(UnknownNameError, match="unknown adapter 'aa'; did you mean a"):
        pipe.set_adapters("aa")
    for weights in ([0.5, 0.5], "much", [float("nan")], {"vae": 1.0}, {"unet": {"down": 0.5}}, [True]):
        with pytest.raises(OptionError):
            pipe.set_adapters(["a"], weights)
    with pytest.raises(UsageError, match="is loaded already"):
        pipe.load_lora_weights(loras["a"], adapter_name="a")
    for options, error in (
        ({"cross_attention_kwargs": {"scale": "x"}}, OptionError),
        ({"cross_attention_kwargs": {"gligen": 1}}, UnsupportedError),
        ({"cross_attention_kwargs": 3}, OptionError),
        ({"adapters": ["a"]}, OptionError),
        ({"adapters": {"nobody": 1}}, UnknownNameError),
    ):
        with pytest.raises(error):
            drawn(pipe, **options)
    with pytest.raises(UnsupportedError, match="hotswap"):
        pipe.load_lora_weights(loras["b"], hotswap=True)
    with pytest.raises(OptionError, match="components names 'vae'"):
        pipe.fuse_lora(components=["vae"])
    with pytest.raises(UnsupportedError, match="fuse_unet"):
        pipe.fuse_lora(fuse_unet=False)


def test_names_are_given_as_in_diffusers(pipe: Any, loras: dict[str, Path]) -> None:
    report = pipe.load_lora_weights(loras["a"])
    assert report.matched == {"unet": 32, "text_encoder": 12}
    pipe.load_lora_weights(loras["b"])
    assert pipe.get_active_adapters() == ["default_1"]
    assert pipe.get_list_adapters()["unet"] == ["default_0", "default_1"]


def test_another_network_in_the_pipeline_is_told_from_the_adapter_s(pipe: Any, loras: dict[str, Path]) -> None:
    pipe.load_lora_weights(loras["a"], adapter_name="a")
    expected = drawn(pipe)
    pipe.unet = copy.deepcopy(pipe.unet)
    assert np.array_equal(drawn(pipe), expected)
    pipe.fuse_lora()
    pipe.unet = copy.deepcopy(pipe.unet)
    assert pipe.fused_loras == {"a"}, "the text encoder is still the same"
    pipe.unfuse_lora()
    from sfumato.models import UNet
    from sfumato.pipeline.parts import check_fit

    other = UNet(type(pipe.unet.config)(channels=(8, 16), attention=(True, False), heads=(2, 2), depth=(1, 1), blocks_per_level=1, context_dim=32, norm_groups=4, sample_size=8))  # fmt: skip
    check_fit(other, pipe.vae, {"text_encoder": pipe.text_encoder})
    pipe.unet = other.eval()
    with pytest.raises(AdapterError, match="loaded for another network than this"):
        drawn(pipe)


# -- merging -----------------------------------------------------------------------------------------------------------


def state(pipe: Any) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{key}": t.clone()
        for part in ("unet", "text_encoder")
        for key, t in getattr(pipe, part).state_dict().items()
    }


def test_merging_is_undone_bit_by_bit_whatever_came_between(pipe: Any, loras: dict[str, Path]) -> None:
    before = state(pipe)
    for name, path in loras.items():
        pipe.load_lora_weights(path, adapter_name=name)
    pipe.set_adapters(["a", "b"], [0.5, 1.5])
    beside = drawn(pipe)
    pipe.fuse_lora(adapter_names=["a"])
    np.testing.assert_allclose(drawn(pipe), beside, atol=1e-4)
    pipe.fuse_lora(adapter_names=["b"])
    np.testing.assert_allclose(drawn(pipe), beside, atol=1e-4)
    with pytest.raises(UsageError, match="unfuse_lora"):
        pipe.set_adapters("a", 0.1)
    pipe.unload_lora_weights()
    np.testing.assert_allclose(drawn(pipe), beside, atol=1e-4)
    pipe.unfuse_lora(components=["text_encoder"])
    assert pipe.fused_loras == {"a", "b"}
    pipe.unfuse_lora()
    assert pipe.num_fused_loras == 0
    assert all(torch.equal(tensor, before[key]) for key, tensor in state(pipe).items())


def test_in_inference_mode_adapters_and_words_are_what_they_are_outside(
    pipe: Any, tiny_folder: Path, loras: dict[str, Path], embedding: Path
) -> None:
    def taken_in(pipe: Any) -> Any:
        pipe.load_lora_weights(loras["a"], adapter_name="a")
        pipe.fuse_lora()
        pipe.load_textual_inversion(embedding)
        return pipe("a zorp", **RUN).images[0]

    outside = taken_in(pipe)
    with torch.inference_mode():
        other = opened(tiny_folder)
        inside = taken_in(other)
        other.unload_textual_inversion()
        other.unfuse_lora()
    assert np.array_equal(inside, outside)
    assert inside.recipe == outside.recipe
    plain = state(opened(tiny_folder))
    assert all(torch.equal(tensor, plain[key]) for key, tensor in state(other).items())


def test_adapters_are_merged_into_a_network_made_in_inference_mode(pipe: Any, loras: dict[str, Path]) -> None:
    pipe.load_lora_weights(loras["a"])
    beside, weights = drawn(pipe), pipe.unet.state_dict()
    with torch.inference_mode():
        pipe.unet = type(pipe.unet)(pipe.unet.config)
        pipe.unet.load_state_dict(weights)
        pipe.fuse_lora()
        np.testing.assert_allclose(drawn(pipe), beside, atol=1e-4)


def test_a_merge_into_one_network_leaves_the_other_beside(pipe: Any, loras: dict[str, Path]) -> None:
    pipe.load_lora_weights(loras["a"])
    beside = drawn(pipe)
    pipe.fuse_lora(components=["unet"])
    np.testing.assert_allclose(drawn(pipe), beside, atol=1e-4)


def test_a_cast_pipeline_unmerges_to_its_cast_weights(tiny_folder: Path, pipe: Any, loras: dict[str, Path]) -> None:
    pipe.load_lora_weights(loras["a"])
    pipe.fuse_lora()
    pipe.to(torch.bfloat16)
    pipe.unfuse_lora()
    plain = state(opened(tiny_folder).to(torch.bfloat16))
    assert all(torch.equal(tensor, plain[key]) for key, tensor in state(pipe).items())


def test_saving_keeps_what_is_merged_and_says_what_is_not(
    pipe: Any, loras: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = drawn(pipe)
    pipe.load_lora_weights(loras["a"], adapter_name="a")
    beside = drawn(pipe)
    pipe.save_pretrained(tmp_path / "without")
    assert "saved without the adapters that run beside it (a); fuse_lora() merges them" in caplog.text
    assert np.array_equal(drawn(opened(tmp_path / "without")), plain)
    pipe.fuse_lora()
    pipe.save_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(drawn(opened(tmp_path / "merged")), beside, atol=1e-4)


# -- recipes -----------------------------------------------------------------------------------------------------------


def test_a_recipe_names_its_adapters_and_replays_with_them(
    pipe: Any, tiny_folder: Path, loras: dict[str, Path]
) -> None:
    for name, path in loras.items():
        pipe.load_lora_weights(path, adapter_name=name)
    pipe.set_adapters(["a", "b"], [0.5, {"unet": 0.25, "text_encoder": 0.0}])
    recipe = pipe("a fox", cross_attention_kwargs={"scale": 2.0}, **RUN).images[0].recipe
    assert [(used.file, dict(used.weights), used.merged) for used in recipe.adapters] == [
        ("a.safetensors", {"unet": 1.0, "text_encoder": 1.0}, False),
        ("b.safetensors", {"unet": 0.5}, False),
    ]
    assert all(used.sha256 and len(used.sha256) == 64 for used in recipe.adapters)
    assert recipe.model_sha256, "what runs beside a model does not change it"
    recipe = Recipe.from_json(recipe.to_json())

    pipe.set_adapters("b")
    result = pipe.replay(recipe)
    assert (result.identical, result.differences) == (True, [])
    assert pipe.get_active_adapters() == ["b"]

    fresh = opened(tiny_folder)
    with pytest.raises(
        RecipeError, match=r"made with 'a\.safetensors' \(sha256 .{10}\), and it is not loaded; load that one first"
    ):
        fresh.replay(recipe)
    for path in loras.values():
        fresh.load_lora_weights(path)
    assert fresh.replay(recipe).identical


def test_another_file_of_that_name_is_not_taken_for_it(pipe: Any, loras: dict[str, Path], tmp_path: Path) -> None:
    pipe.load_lora_weights(loras["a"])
    recipe = pipe("a fox", **RUN).images[0].recipe
    pipe.unload_lora_weights()
    shutil.copy(loras["b"], tmp_path / "a.safetensors")
    pipe.load_lora_weights(tmp_path / "a.safetensors")
    with pytest.raises(RecipeError, match="another file of that name is loaded"):
        pipe.replay(recipe)


def test_what_was_merged_is_merged_for_a_replay_and_only_for_it(pipe: Any, loras: dict[str, Path]) -> None:
    for name, path in loras.items():
        pipe.load_lora_weights(path, adapter_name=name)
    pipe.set_adapters(["a", "b"])
    pipe.fuse_lora(adapter_names=["a"], lora_scale=0.5)
    recipe = pipe("a fox", **RUN).images[0].recipe
    assert [(used.file, used.merged) for used in recipe.adapters] == [("a.safetensors", True), ("b.safetensors", False)]
    assert recipe.model_sha256
    pipe.unfuse_lora()
    pipe.fuse_lora(adapter_names=["b"])
    before = state(pipe)
    result = pipe.replay(recipe)
    assert (result.identical, result.differences) == (True, [])
    assert pipe.fused_loras == {"b"}
    assert all(torch.equal(tensor, before[key]) for key, tensor in state(pipe).items())


def test_a_recipe_without_adapters_replays_without(pipe: Any, loras: dict[str, Path]) -> None:
    recipe = pipe("a fox", **RUN).images[0].recipe
    pipe.load_lora_weights(loras["a"])
    assert pipe.replay(recipe).identical
    pipe.fuse_lora()
    assert pipe.replay(recipe).identical


def test_tensors_without_a_file_can_t_be_recorded(pipe: Any, loras: dict[str, Path]) -> None:
    from safetensors.torch import load_file

    pipe.load_lora_weights(load_file(loras["a"]))
    recipe = pipe("a fox", **RUN).images[0].recipe
    assert recipe.unrecorded == "it used adapters that lie in no file"
    with pytest.raises(RecipeError, match="lie in no file"):
        pipe.replay(recipe)


def test_damaged_entries_of_recipes_are_errors(pipe: Any) -> None:
    values = json.loads(pipe("a fox", **RUN).images[0].recipe.to_json())
    for adapters in (
        "x",
        [1],
        [{"file": 1}],
        [{}],
        [{"file": "x", "more": 1}],
        [{"file": "x", "weights": {"unet": "a"}}],
        {"file": "x"},
    ):
        with pytest.raises(RecipeError):
            Recipe.from_dict({**values, "adapters": adapters})
    entry = {"file": "x.safetensors", "weights": {"unet": 1}}
    assert Recipe.from_dict({**values, "adapters": [entry]}).adapters == (
        UsedAdapter(file="x.safetensors", weights={"unet": 1.0}),
    )


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_found_in_a_folder(pipe: Any, loras: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="holds no adapter under a usual name"):
        pipe.load_lora_weights(tmp_path)
    (tmp_path / "sub").mkdir()
    shutil.copy(loras["a"], tmp_path / "sub" / "odd.safetensors")
    pipe.load_lora_weights(tmp_path, subfolder="sub")
    shutil.copy(loras["b"], tmp_path / "sub" / "other.safetensors")
    with pytest.raises(
        OptionError, match=r"holds 2 files \(odd.safetensors, other.safetensors\); say which by weight_name"
    ):
        pipe.load_lora_weights(tmp_path / "sub")
    pipe.load_lora_weights(tmp_path / "sub", weight_name="other.safetensors")
    shutil.copy(loras["b"], tmp_path / "sub" / "pytorch_lora_weights.safetensors")
    pipe.load_lora_weights(tmp_path / "sub")
    with pytest.raises(MissingFileError, match=r"has no nothing.safetensors; it has odd.safetensors"):
        pipe.load_lora_weights(tmp_path / "sub", weight_name="nothing.safetensors")


def test_names_that_are_nowhere_are_said(pipe: Any) -> None:
    with pytest.raises(MissingFileError, match=r"there is no adapter '\./nowhere\.safetensors'"):
        pipe.load_lora_weights("./nowhere.safetensors")
    with pytest.raises(DownloadError, match="owner/name is not in the cache"):
        pipe.load_lora_weights("owner/name", weight_name="x.safetensors", local_files_only=True)
    for options in ({"weight_name": "../x"}, {"subfolder": "/etc"}, {"weight_name": 3}):
        with pytest.raises(OptionError, match="expected a name within the folder"):
            pipe.load_lora_weights("owner/name", **options)
    with pytest.raises(UnsupportedError, match="nonsense=1"):
        pipe.load_lora_weights("owner/name", nonsense=1)


# -- textual inversion -------------------------------------------------------------------------------------------------


@pytest.fixture
def embedding(tmp_path: Path) -> Path:
    path = tmp_path / "zorp.safetensors"
    save_file({"emb_params": torch.randn(3, 32, generator=torch.Generator().manual_seed(1)) * 2}, path)
    return path


def test_a_word_stands_for_an_embedding_and_recipes_say_so(pipe: Any, tiny_folder: Path, embedding: Path) -> None:
    plain = pipe("a zorp fox", **RUN).images[0]
    assert pipe.load_textual_inversion(embedding) == ["zorp"]
    assert pipe("a fox", **RUN).images[0].recipe.adapters == ()
    image = pipe("a zorp fox", **RUN).images[0]
    assert image != plain
    (used,) = image.recipe.adapters
    assert (used.file, used.token, dict(used.weights)) == ("zorp.safetensors", "zorp", {})
    assert image.recipe.model_sha256
    assert pipe("a fox", negative_prompt="zorp", **RUN).images[0].recipe.adapters == (used,)
    assert pipe("a fox", negative_prompt="zorp", guidance_scale=1.0, **RUN).images[0].recipe.adapters == ()
    assert pipe.replay(image.recipe).identical
    with pytest.raises(RecipeError, match=r"load_textual_inversion\(…, token='zorp'\)"):
        opened(tiny_folder).replay(image.recipe)
    # The word had no meaning then, and has one now: said, not hidden.
    assert any(
        line.startswith("the adapters: none then, zorp.safetensors") for line in pipe.replay(plain.recipe).differences
    )
    pipe.unload_textual_inversion()
    assert pipe.replay(plain.recipe).identical


def test_several_embeddings_and_their_words(pipe: Any, embedding: Path) -> None:
    rows = torch.randn(1, 32)
    assert pipe.load_textual_inversion([embedding, {"<b>": rows}], token=["first-zorp", None]) == ["first-zorp", "<b>"]
    assert pipe.load_textual_inversion(rows, token="<third>") == ["<third>"]
    with pytest.raises(OptionError, match="no embedding 'zorp' is loaded; loaded are"):
        pipe.unload_textual_inversion("zorp")
    pipe.unload_textual_inversion(["<b>", "<third>"])
    assert pipe.tokenizer.token_ids("first-zorp") == [49408, 49409, 49410]
    with pytest.raises(OptionError, match="2 tokens for 1 embeddings"):
        pipe.load_textual_inversion(embedding, token=["x", "y"])
    with pytest.raises(OptionError, match="has no name"):
        pipe.load_textual_inversion(rows)
    with pytest.raises(AdapterError, match="is a word of this model's vocabulary"):
        pipe.load_textual_inversion(embedding, token="fox")
    with pytest.raises(UnsupportedError, match="own text encoders"):
        pipe.load_textual_inversion(embedding, tokenizer=object())


def test_a_prompt_that_is_cut_says_the_word_that_found_no_room(pipe: Any, embedding: Path) -> None:
    pipe.load_textual_inversion(embedding)
    (note,) = pipe("fox " * 73 + "zorp fox", **RUN).notes
    assert "not seen: 'zorp fox'" in note
