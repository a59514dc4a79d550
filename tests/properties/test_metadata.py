"""Whatever stands in a picture, reading it gives settings or one typed error, in time; and settings can be put into a recipe's ranges."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_metadata import A1111, INVOKE, INVOKE_OLD, NOVELAI, comfy, png
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sfumato.errors import MetadataError
from sfumato.metadata import Settings
from sfumato.metadata.a1111 import read_a1111
from sfumato.metadata.comfyui import read_comfyui
from sfumato.metadata.draft import LONGEST, LONGEST_SHOWN, MOST_OMISSIONS
from sfumato.metadata.invokeai import read_invokeai, read_old_invokeai
from sfumato.metadata.novelai import read_novelai
from sfumato.metadata.reading import Texts, settings_of, user_comment
from sfumato.recipe import Recipe

anything = st.text(st.characters(exclude_categories=()), max_size=60)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**300), max_value=10**300)
    | st.floats()
    | anything
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3), max_leaves=8
)
links = st.tuples(st.sampled_from("3456789") | leaves, st.integers(-2, 3) | leaves).map(list)


def novelai(comment: str) -> Settings:
    return read_novelai(NOVELAI | {"Comment": comment})


READERS: dict[str, tuple[Callable[[str], Settings], Any]] = {
    "comfyui": (read_comfyui, comfy()),
    "invokeai": (read_invokeai, INVOKE),
    "invokeai of old": (read_old_invokeai, INVOKE_OLD),
    "novelai": (novelai, json.loads(NOVELAI["Comment"])),
}


def check(found: Settings) -> None:
    """It is whole, printable, and a recipe takes it."""
    for text in (found.prompt or "", found.negative_prompt, found.model or "", *(one.value for one in found.omissions)):
        text.encode("utf-8")
    assert len(found.omissions) <= MOST_OMISSIONS + 1
    for one in found.omissions:
        assert one.why
        assert len(one.name) <= LONGEST_SHOWN
        assert len(one.value) <= LONGEST_SHOWN
    recipe = Recipe(
        prompt=found.prompt,
        negative_prompt=found.negative_prompt,
        seed=found.seed,
        noise_count=found.noise_count,
        rng=found.rng,
        subseed=found.subseed,
        subseed_strength=found.subseed_strength,
        seed_resize=found.seed_resize,
        eta_noise_seed_delta=found.eta_noise_seed_delta,
        sampler=found.sampler or "euler",
        scheduler={},
        steps=found.steps or 1,
        guidance_scale=1.0 if found.guidance_scale is None else found.guidance_scale,
        eta=found.eta,
        width=found.width or 8,
        height=found.height or 8,
        clip_skip=found.clip_skip,
        dtype="float32",
        device="cpu",
        model=found.model or "",
    )
    assert Recipe.from_json(recipe.to_json()) == recipe


def read(reader: Callable[[str], Settings], text: str) -> None:
    found: Settings | MetadataError
    try:
        found = reader(text)
    except MetadataError as error:
        found = error
    if isinstance(found, Settings):
        check(found)
    else:
        assert len(str(found)) < 600


@pytest.mark.parametrize("name", READERS)
@given(value=values)
def test_any_json_is_read_or_refused(name: str, value: Any) -> None:
    read(READERS[name][0], json.dumps(value))


@pytest.mark.parametrize("name", READERS)
@given(text=anything)
def test_any_text_is_read_or_refused(name: str, text: str) -> None:
    read(READERS[name][0], text)


def put(tree: Any, path: list[int], value: Any) -> Any:
    """The tree with another value somewhere in it."""
    if not path or not isinstance(tree, dict | list) or not tree:
        return value
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = keys[path[0] % len(keys)]
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[key] = put(tree[key], path[1:], value)
    return copy


@pytest.mark.parametrize("name", READERS)
@given(
    places=st.lists(
        st.tuples(st.lists(st.integers(0, 40), min_size=1, max_size=4), values | links), min_size=1, max_size=4
    )
)
@settings(max_examples=200)
def test_real_metadata_with_wrong_values_is_read_or_refused(name: str, places: list[tuple[list[int], Any]]) -> None:
    reader, tree = READERS[name]
    for path, value in places:
        tree = put(tree, path, value)
    read(reader, json.dumps(tree))


@given(
    words=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "Steps",
                    "Sampler",
                    "Schedule type",
                    "CFG scale",
                    "Seed",
                    "Size",
                    "RNG",
                    "ENSD",
                    "Clip skip",
                    "Variation seed",
                    "Variation seed strength",
                    "Seed resize from",
                    "Lora hashes",
                    "Version",
                    "Eta",
                    "Hires upscale",
                    "Model",
                ]
            )
            | anything,
            anything
            | st.sampled_from(
                ["1", "0.5", "-1", "512x512", "1e999", "9" * 30, '"a, b"', '"', "٣", "０x８", "nan", "Automatic"]
            ),
        ),
        max_size=12,
    ),
    prompt=anything | st.sampled_from(["<lora:a:1>", "<lora:a:b:c:d>", "<lora:" * 50, "<lora:a:te=1:unet=nan>"]),
)
@example(words=[("Steps", "1"), ("Seed", "2"), ("Model", "\ud800")], prompt="\udfff")
@example(words=[("Steps", "1"), ("Seed", "2"), ("Size", "8x8"), ("Version", "v1." + "9" * 30)], prompt="")
def test_any_parameters_are_read_or_refused(words: list[tuple[str, str]], prompt: str) -> None:
    read(read_a1111, f"{prompt}\n" + ", ".join(f"{name}: {value}" for name, value in words))


@given(cut=st.integers(0, len(A1111)), junk=anything)
def test_cut_parameters_are_read_or_refused(cut: int, junk: str) -> None:
    read(read_a1111, A1111[:cut] + junk)


@given(chunks=st.dictionaries(st.sampled_from(["parameters", "prompt", "invokeai_metadata", "sd-metadata", "Comment", "Software"]), anything | st.just("NovelAI")))  # fmt: skip
def test_any_chunks_are_read_or_refused(chunks: dict[str, str]) -> None:
    try:
        found = settings_of(Texts(named=chunks))
    except MetadataError:
        return
    if found is not None:
        check(found)


@given(comment=st.none() | st.binary() | st.integers() | st.binary().map(lambda text: b"UNICODE\0" + text))
def test_any_user_comment_is_a_text_or_none(comment: object) -> None:
    assert isinstance(user_comment(comment), str | None)


def ring(nodes: int) -> str:
    return json.dumps(
        {
            str(place): {
                "class_type": "KSampler" if place == 0 else "Reroute",
                "inputs": {
                    name: [str((place + 1) % nodes), 0]
                    for name in ("model", "samples", "latent_image", "positive", "seed")
                },
            }
            for place in range(nodes)
        }
    )


HUGE: dict[str, tuple[Callable[[str], Settings], Callable[[], str]]] = {
    "a ring of nodes": (read_comfyui, lambda: ring(19_000)),
    "too many nodes": (read_comfyui, lambda: ring(20_001)),
    "all are outputs": (read_comfyui, lambda: json.dumps({str(i): {"class_type": "SaveImage", "inputs": {"images": [str(i + 1), 0]}} for i in range(20_000)})),
    "deep": (read_comfyui, lambda: '{"3":' * 50_000 + "1" + "}" * 50_000),
    "a long list": (read_invokeai, lambda: '{"seed": [' + "0," * 1_000_000 + "0]}"),
    "many keys": (read_invokeai, lambda: json.dumps({str(i): i + 1 for i in range(100_000)})),
    "brackets": (read_old_invokeai, lambda: json.dumps({"image": {"prompt": "[" * 1_000_000}})),
    "spaces": (read_old_invokeai, lambda: json.dumps({"image": {"prompt": " " * 1_000_000}})),
    "settings": (read_a1111, lambda: "cat\n" + ", ".join(f"Key {i}: {i}" for i in range(50_000))),
    "hashes": (read_a1111, lambda: 'cat\nSteps: 1, Seed: 1, Size: 8x8, Lora hashes: "' + "a" * 1_000_000 + '"'),
    "tags": (read_a1111, lambda: "<lora:" * 300_000 + "\nSteps: 1, Seed: 1, Size: 8x8"),
    "more tags": (read_a1111, lambda: "<lora:a:1>" * 100_000 + "\nSteps: 1, Seed: 1, Size: 8x8"),
    "too long": (read_a1111, lambda: "a" * (LONGEST + 1)),
    "too long a comment": (novelai, lambda: " " * (LONGEST + 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.timeout(60)  # what takes quadratic time would take hours
def test_what_is_huge_is_read_or_refused(name: str) -> None:
    reader, make = HUGE[name]
    read(reader, make())


def test_a_chunk_that_unpacks_without_end_is_an_error(tmp_path: Path) -> None:
    import zlib

    from sfumato.errors import ImageError
    from sfumato.metadata import read_settings

    path = png(tmp_path / "a.png")
    whole = path.read_bytes()
    packed = b"zTXtparameters\0\0" + zlib.compress(b"a" * 50_000_000)
    chunk = (len(packed) - 4).to_bytes(4, "big") + packed + zlib.crc32(packed).to_bytes(4, "big")
    path.write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.raises(ImageError):
        read_settings(path)
