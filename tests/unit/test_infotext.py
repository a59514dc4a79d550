import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.infotext import SAMPLER_NAMES, Infotext, _unquoted, infotext, parse_infotext
from sfumato.recipe import Emphasis, Recipe

RECIPE = Recipe(
    prompt="a red apple,\n3d style",
    negative_prompt="blurry: yes",
    seed=42,
    sampler="euler",
    scheduler={"timestep_spacing": "linspace"},
    steps=20,
    guidance_scale=7.0,
    width=512,
    height=768,
    dtype="float32",
    device="cpu",
    model="/models/dream,v1: final",
    model_sha256="0123456789abcdef",
    versions={"sfumato": "0.1.0"},
)


def test_the_text_as_the_web_ui_writes_it() -> None:
    assert infotext(RECIPE) == (
        "a red apple,\n3d style\n"
        "Negative prompt: blurry: yes\n"
        "Steps: 20, Sampler: Euler, Schedule type: Uniform, CFG scale: 7, Seed: 42, Size: 512x768, Model hash: 0123456789, "
        'Model: "dream,v1: final", RNG: CPU, Version: Sfumato 0.1.0'
    )


def test_what_is_not_there_is_left_out() -> None:
    bare = replace(
        RECIPE, negative_prompt="", model_sha256="", scheduler={}, versions={}, guidance_scale=7.5, seed=None, model=""
    )
    assert (
        infotext(bare)
        == "a red apple,\n3d style\nSteps: 20, Sampler: Euler, CFG scale: 7.5, Size: 512x768, RNG: CPU, Version: Sfumato"
    )


def test_clip_skip_counts_from_one_and_eta_is_an_extra() -> None:
    text = infotext(replace(RECIPE, clip_skip=1, eta=0.5))
    assert "Clip skip: 2, RNG: CPU, Eta: 0.5, Version" in text
    assert "Clip skip" not in infotext(replace(RECIPE, clip_skip=0))


@pytest.mark.parametrize(
    ("scheduler", "name"),
    [
        ({"use_karras_sigmas": True, "timestep_spacing": "leading"}, "Karras"),
        ({"use_exponential_sigmas": True}, "Exponential"),
        ({"timestep_spacing": "leading"}, "DDIM"),
        ({"timestep_spacing": "trailing"}, "Simple"),
        ({"use_beta_sigmas": True}, "Beta"),
        ({"schedule": "automatic"}, "Automatic"),
        ({"schedule": "sgm_uniform"}, "SGM Uniform"),
        ({"schedule": "align_your_steps"}, "Align Your Steps"),
    ],
)
def test_schedule_types(scheduler: dict[str, object], name: str) -> None:
    assert parse_infotext(infotext(replace(RECIPE, scheduler=scheduler))).settings["Schedule type"] == name


def test_a_schedule_s_settings_have_the_web_ui_s_names_and_what_does_nothing_is_left_out() -> None:
    scheduler = {
        "schedule": "karras",
        "rho": 5.0,
        "sigma_min": 0.1,
        "sigma_max": None,
        "eta": 0.5,
        "s_churn": 3.0,
        "s_noise": 1.0,
    }
    read = parse_infotext(infotext(replace(RECIPE, scheduler=scheduler))).settings
    assert [read[name] for name in ("Schedule min sigma", "Schedule rho", "Eta", "Sigma churn")] == [
        "0.1",
        "5",
        "0.5",
        "3",
    ]
    assert not {"Schedule max sigma", "Sigma noise", "Sigma tmin", "Sigma tmax"} & read.keys()
    assert "Eta: 0.7" in infotext(replace(RECIPE, scheduler=scheduler, eta=0.7))


def test_it_is_read_as_it_was_written() -> None:
    read = parse_infotext(infotext(RECIPE))
    assert (read.prompt, read.negative_prompt) == ("a red apple,\n3d style", "blurry: yes")
    assert read.settings["Model"] == "dream,v1: final"
    assert (read.settings["Size"], read.settings["Size-1"], read.settings["Size-2"]) == ("512x768", "512", "768")


lines = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=40).map(str.strip)


@settings(deadline=None)
@given(prompt=st.lists(lines, max_size=3), negative=lines, model=lines, sampler=st.sampled_from(sorted(SAMPLER_NAMES)))
def test_any_prompt_of_some_lines_is_read_as_it_was_written(
    prompt: list[str], negative: str, model: str, sampler: str
) -> None:
    text = "\n".join(prompt).strip()
    recipe = replace(RECIPE, prompt=text, negative_prompt=negative, model=model, sampler=sampler)
    read = parse_infotext(infotext(recipe))
    if "Negative prompt:" not in text:
        assert (read.prompt, read.negative_prompt) == (text, negative)
    assert read.settings["Sampler"] == SAMPLER_NAMES[sampler]
    assert read.settings["Seed"] == "42"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_reading_never_fails(text: str) -> None:
    parse_infotext(text)
    infotext(replace(RECIPE, prompt=text)).encode("utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Infotext(prompt="")),
        ("only a prompt", Infotext(prompt="only a prompt")),
        ("a: b, c: d", Infotext(prompt="a: b, c: d")),  # two are too few for settings
        ("cat\nNegative prompt: dog\nbird", Infotext(prompt="cat", negative_prompt="dog\nbird")),
        (
            'cat\nSteps: 20, Sampler: DPM++ 2M Karras, Lora hashes: "a: 1, b: 2", Size: 64x32',
            Infotext(
                prompt="cat",
                settings={
                    "Steps": "20",
                    "Sampler": "DPM++ 2M Karras",
                    "Lora hashes": "a: 1, b: 2",
                    "Size": "64x32",
                    "Size-1": "64",
                    "Size-2": "32",
                },
            ),
        ),
        (
            'x\nA1: "unclosed, B1: 2, C1: 3, D1: 4',
            Infotext(prompt="x", settings={"A1": '"unclosed', "B1": "2", "C1": "3", "D1": "4"}),
        ),
    ],
)
def test_texts_of_others(text: str, expected: Infotext) -> None:
    assert parse_infotext(text) == expected


# As the web UI itself finds settings.
THEIRS = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


@settings(max_examples=1000)
@given(st.lists(st.sampled_from([*list('ab1 -/:,"\\\t.é'), "Ab: ", 'Cd: "', '",']), max_size=30).map("".join))
def test_settings_are_found_where_the_web_ui_finds_them(line: str) -> None:
    line = line.strip()
    found = {name: _unquoted(value) for name, value in THEIRS.findall(line)} if len(THEIRS.findall(line)) >= 3 else {}
    assert dict(parse_infotext(line).settings) == found


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        " ",
        "a ",
        "-",
        ":",
        "a:",
        "aa",
        'aa: "',
        'aa: "\\',
        'aa: "\\"',
        '"',
        "\\",
        ",",
        "aa:,",
        "aa: ",
        "1x",
        "é\t",
        "\u3000",
    ],
)
def test_a_megabyte_is_read_in_one_go(piece: str) -> None:
    """With the web UI's expression most of these take an hour; the tests' own time limit would end them."""
    line = piece * (1_000_000 // len(piece))
    parse_infotext(line)
    assert parse_infotext(f"cat\nAa: 1, Bb: 2, Cc: 3, {line}").settings["Bb"] == "2"


def test_a_seed_is_given_to_others_only_where_it_alone_makes_the_noise() -> None:
    read = parse_infotext(infotext(replace(RECIPE, seed=7, noise_index=1, noise_count=3)))
    assert "Seed" not in read.settings
    assert read.settings["Noise"] == "row 2 of 3 from seed 7"
    first = parse_infotext(infotext(replace(RECIPE, seed=7, noise_count=3))).settings
    assert first["Noise"] == "row 1 of 3 from seed 7"
    used = parse_infotext(infotext(replace(RECIPE, seed=7, noise_state="AAAA"))).settings
    assert (used["Noise"], "Seed" in used) == ("a used generator", False)
    assert "Noise" not in parse_infotext(infotext(RECIPE)).settings


@pytest.mark.parametrize(
    ("emphasis", "said"),
    [("a1111", None), ("a1111_no_norm", "No norm"), ("none", "None"), ("comfy", "comfy"), ("compel", "compel")],
)
def test_emphasis_is_said_where_the_web_ui_would_take_brackets_otherwise(emphasis: Emphasis, said: str | None) -> None:
    for prompts in ({"prompt": "a (cat:1.2)"}, {"negative_prompt": "[blur]"}):
        settings = parse_infotext(infotext(replace(RECIPE, **prompts, emphasis=emphasis))).settings
        assert settings.get("Emphasis") == said
    assert "Emphasis" not in infotext(replace(RECIPE, emphasis=emphasis))


def test_guidance_in_the_words_that_others_have_for_it() -> None:
    guided = replace(
        RECIPE,
        guidance={
            "guidance_rescale": 0.7, "guidance_interval": [0.25, 1.0], "pag_scale": 3.0, "pag_adaptive_scale": 0.0,
            "pag_applied_layers": ["mid"], "freeu": {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4},
        },
    )  # fmt: skip
    said = parse_infotext(infotext(guided)).settings
    assert said["CFG Rescale"] == "0.7"
    assert said["PAG scale"] == "3"
    assert "PAG adaptive" not in said
    assert said["FreeU"] == "s1 0.9, s2 0.2, b1 1.2, b2 1.4"
    assert parse_infotext(infotext(replace(RECIPE, guidance={"guidance_interval": [0.0, 0.5]}))).settings[
        "Guidance interval"
    ] == "0.0 to 0.5"  # fmt: skip
    # The web UI skips the steps that begin at that share or before it.
    for steps in range(1, 40):
        skipped = [step for step in range(steps) if step / steps <= float(said["Skip Early CFG"])]
        assert skipped == [step for step in range(steps) if step / steps < 0.25]


@pytest.mark.parametrize(
    "wrong",
    [
        {"freeu": 3},
        {"guidance_interval": ["a", 1]},
        {"guidance_interval": "01"},
        {"pag_scale": []},
        {"pag_scale": 10**400},
        {"guidance_interval": [10**400, 1]},
    ],
)
def test_guidance_that_is_none_is_no_error(wrong: dict[str, object]) -> None:
    assert "CFG scale: 7" in infotext(replace(RECIPE, guidance=wrong))


@pytest.mark.parametrize(("steps", "strength"), [(20, 0.7), (30, 0.5), (12, 0.3), (25, 1.0), (13, 0.77)])
def test_the_web_ui_takes_the_steps_of_a_second_pass_from_the_same_place(steps: int, strength: float) -> None:
    image = {"recipe": json.loads(RECIPE.to_json()), "enlarge": "latent"}
    second = replace(
        RECIPE, width=1024, height=1536, steps=steps, inputs={"image": image}, workflow_options={"strength": strength}
    )
    told = int(parse_infotext(infotext(second)).settings["Hires steps"])
    # What the web UI does with it (setup_img2img_steps): so many steps of a longer run, all of them taken.
    whole = int(told / min(strength, 0.999))
    assert told == int(steps * strength)
    assert abs((whole - told) / whole - (steps - told) / steps) <= 1 / told, "both begin as far down"
