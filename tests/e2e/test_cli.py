"""The command as a person runs it, on a tiny random model."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.cli.app import run
from sfumato.images import pixels_sha256_of, read_recipe, save_image

OUTPUT = pytest.CaptureFixture[str]


def sfumato(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_picture_with_its_recipe(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    assert (
        sfumato(
            "generate",
            "A red apple",
            "--model",
            tiny_folder,
            "--seed",
            7,
            "--steps",
            3,
            "--size",
            "64x48",
            "--device",
            "cpu",
        )
        == 0
    )
    output = capsys.readouterr()
    assert output.out == f"{Path('outputs/a-red-apple-7.png')}\n"
    assert output.err == ""
    recipe = read_recipe(here / "outputs" / "a-red-apple-7.png")
    assert (recipe.prompt, recipe.seed, recipe.steps, recipe.width, recipe.height) == ("A red apple", 7, 3, 64, 48)
    assert recipe.pixels_sha256 == pixels_sha256_of(here / "outputs" / "a-red-apple-7.png")
    assert os.listdir(here / "outputs") == ["a-red-apple-7.png"]


def test_every_setting_reaches_the_recipe(tiny_folder: Path, here: Path) -> None:
    options = [
        "--guidance",
        3.5,
        "--negative",
        "blurry",
        "--sampler",
        "ddim",
        "--spacing",
        "trailing",
        "--eta",
        0.5,
        "--clip-skip",
        1,
    ]
    assert (
        sfumato(
            "generate",
            "cat",
            "--model",
            tiny_folder,
            "--steps",
            2,
            "--seed",
            1,
            *options,
            "--dtype",
            "bfloat16",
            "--out",
            "cat.webp",
        )
        == 0
    )
    recipe = read_recipe(here / "cat.webp")
    assert (recipe.guidance_scale, recipe.negative_prompt, recipe.sampler, recipe.eta, recipe.clip_skip) == (
        3.5,
        "blurry",
        "ddim",
        0.5,
        1,
    )
    assert (recipe.scheduler["timestep_spacing"], recipe.dtype) == ("trailing", "bfloat16")


def test_many_pictures_a_grid_and_films(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    arguments = ["cat", "dog", "--grid", "2x2", "--animate", "film.gif", "--out", "a.png", "--seed", 1, "--steps", 3]
    assert sfumato("generate", *arguments, "--model", tiny_folder) == 0
    pictures, films = [f"a-{n}.png" for n in range(1, 5)], [f"film-{n}.gif" for n in range(1, 5)]
    printed = capsys.readouterr().out.splitlines()
    assert printed == [name for pair in zip(pictures, films, strict=True) for name in pair] + ["a-grid.png"]
    assert [(read_recipe(here / name).prompt, read_recipe(here / name).seed) for name in pictures] == [
        ("cat", 1),
        ("cat", 2),
        ("dog", 3),
        ("dog", 4),
    ]
    with Image.open(here / "a-grid.png") as grid, Image.open(here / "a-4.png") as last:
        assert grid.size == (2 * last.width, 2 * last.height)
        assert np.array_equal(np.asarray(grid)[last.height :, last.width :], np.asarray(last))
    with Image.open(here / "film-1.gif") as film:
        assert film.n_frames == 3  # the first two steps, and the picture
    assert sfumato("inspect", "a-grid.png") == 0
    assert capsys.readouterr().out.count("picture ") == 4


def test_a_seed_draws_the_same_picture_alone_and_in_company(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    common = ["--model", tiny_folder, "--steps", 2]
    assert sfumato("generate", "cat", *common, "-n", 2, "--seed", 4, "--out", "two.png") == 0
    assert sfumato("generate", "cat", *common, "--seed", 5, "--out", "one.png") == 0
    assert pixels_sha256_of(here / "one.png") == pixels_sha256_of(here / "two-2.png")
    capsys.readouterr()
    assert sfumato("generate", "cat", *common, "--out", "drawn.png") == 0
    seed = read_recipe(here / "drawn.png").seed
    assert capsys.readouterr().err == f"seed {seed} (drawn at random; --seed {seed} draws the same again)\n"


def test_pictures_of_one_call_are_the_same_too(tiny_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator several pictures are drawn in one call; here the same way is taken on a CPU."""
    common = ["--model", tiny_folder, "--steps", 2, "--seed", 4, "-n", 4]
    assert sfumato("generate", "cat", *common, "--out", "alone.png") == 0
    monkeypatch.setattr("sfumato.cli.drawing.PICTURES_PER_CALL", {"cpu": 3})
    assert sfumato("generate", "cat", *common, "--out", "together.png", "--animate", "film.webp") == 0
    for number in range(1, 5):
        assert pixels_sha256_of(here / f"alone-{number}.png") == pixels_sha256_of(here / f"together-{number}.png")
        assert (here / f"film-{number}.webp").exists()


def test_a_picture_that_fails_leaves_the_others_alone(
    tiny_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: OUTPUT
) -> None:
    from sfumato import StableDiffusionPipeline
    from sfumato.errors import NumericalError

    drawn = StableDiffusionPipeline.__call__

    def fail(pipe: StableDiffusionPipeline, prompts: list[str], **settings: object) -> object:
        if "bad" in prompts[0]:
            raise NumericalError("NaN at step 1 in down.0")
        return drawn(pipe, prompts, **settings)

    monkeypatch.setattr(StableDiffusionPipeline, "__call__", fail)
    common = ["--model", tiny_folder, "--steps", 1, "--seed", 1, "--out"]
    assert sfumato("generate", "cat", "bad", "dog", *common, "a.png", "--grid", "1x3") == 2
    output = capsys.readouterr()
    assert output.out.splitlines() == ["a-1.png", "a-3.png", "a-grid.png"]
    assert output.err == "note: picture 2 failed: NaN at step 1 in down.0\n"
    with Image.open(here / "a-grid.png") as grid:
        assert grid.getpixel((grid.width // 2, 0)) == (255, 255, 255)
    assert sfumato("generate", "bad", *common, "b.png") == 2
    assert capsys.readouterr().err == "error: NaN at step 1 in down.0\n", "a single picture's failure is said once"
    assert not (here / "b.png").exists()
    assert sfumato("generate", "bad", "-n", 2, *common, "b.png") == 2
    assert capsys.readouterr().err.splitlines() == [
        "note: picture 1 failed: NaN at step 1 in down.0",
        "note: picture 2 failed: NaN at step 1 in down.0",
        "error: none of the 2 pictures could be made; the notes above say why",
    ]


def test_files_are_left_alone_unless_asked(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    common = ["--model", tiny_folder, "--steps", 1, "--quiet"]
    (here / "cat.png").write_bytes(b"mine")
    assert sfumato("generate", "cat", *common, "--out", "cat.png") == 2
    assert "cat.png exists already" in capsys.readouterr().err
    assert (here / "cat.png").read_bytes() == b"mine"
    assert sfumato("generate", "cat", *common, "--out", "cat.png", "--overwrite") == 0
    assert read_recipe(here / "cat.png").prompt == "cat"


@pytest.fixture
def model_here(tiny_folder: Path, here: Path) -> Path:
    """The tiny model in the current folder, where replay looks for it."""
    (here / tiny_folder.name).symlink_to(tiny_folder)
    return Path(tiny_folder.name)


def test_replay(model_here: Path, here: Path, capsys: OUTPUT) -> None:
    tiny_folder = model_here
    common = ["--model", tiny_folder, "--steps", 2, "--seed", 1]
    assert sfumato("generate", "cat", *common, "--sampler", "euler_a", "--out", "cat.png") == 0
    capsys.readouterr()
    assert sfumato("replay", "cat.png") == 0
    assert capsys.readouterr().out == "bit-identical\n"
    (here / "cat.json").write_text(read_recipe(here / "cat.png").to_json())
    assert sfumato("replay", "cat.json", "--out", "again.png") == 0
    assert capsys.readouterr().out == "again.png\nbit-identical\n"
    assert pixels_sha256_of(here / "again.png") == pixels_sha256_of(here / "cat.png")


def test_replay_judges_the_file_and_not_only_its_recipe(model_here: Path, here: Path, capsys: OUTPUT) -> None:
    assert sfumato("generate", "cat", "--model", model_here, "--steps", 1, "--seed", 1, "--out", "cat.png") == 0
    with Image.open("cat.png") as image:
        recipe, changed = read_recipe(here / "cat.png"), image.convert("RGB")
    changed.putpixel((0, 0), (255, 0, 0))
    save_image(changed, here / "painted.png", recipe)
    capsys.readouterr()
    assert sfumato("replay", "painted.png") == 1
    assert "this file's pixels were changed since" in capsys.readouterr().out


def test_replay_says_what_differs(model_here: Path, here: Path, capsys: OUTPUT) -> None:
    tiny_folder = model_here
    assert sfumato("generate", "cat", "--model", tiny_folder, "--steps", 2, "--out", "cat.png", "--seed", 1) == 0
    recipe = read_recipe(here / "cat.png")
    other = replace(recipe, pixels_sha256="0" * 64, versions={**recipe.versions, "torch": "1.0"})
    with Image.open(here / "cat.png") as image:
        save_image(image, here / "other.png", other)
    capsys.readouterr()
    assert sfumato("replay", "other.png") == 1
    output = capsys.readouterr().out
    assert output.startswith("not the same picture\n")
    assert "differs: torch: 1.0 then" in output
    (here / "gpu.json").write_text(replace(recipe, device="abacus").to_json())
    assert sfumato("replay", "gpu.json") == 0
    assert capsys.readouterr().out == "bit-identical\ndiffers: device: abacus then, cpu now\n"
    (here / "blank.json").write_text(replace(recipe, pixels_sha256=None).to_json())
    assert sfumato("replay", "blank.json") == 0
    assert "nothing can be compared" in capsys.readouterr().out


def test_replay_looks_for_the_model_here_and_beside_the_picture(
    tiny_folder: Path, here: Path, capsys: OUTPUT, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "pictures").mkdir()
    picture = "pictures/cat.png"
    assert sfumato("generate", "cat", "--model", tiny_folder, "--steps", 1, "--seed", 1, "--out", picture) == 0
    capsys.readouterr()
    assert sfumato("replay", picture) == 2
    missing = capsys.readouterr().err
    assert missing == (
        f"error: pictures/cat.png was made with the model {tiny_folder.name!r}, and no such folder or file is here or beside the "
        "picture; pass --model PATH\n"
    )
    assert sfumato("replay", picture, "--model", tiny_folder) == 0
    recipe = read_recipe(here / picture)
    for somewhere in (tiny_folder, f"../../{tiny_folder.name}", f"\\\\server\\share\\{tiny_folder.name}"):
        (here / "pictures" / "path.json").write_text(replace(recipe, model=str(somewhere)).to_json())
        assert sfumato("replay", "pictures/path.json") == 2, "a picture does not say which paths are opened"
        assert "pass --model PATH" in capsys.readouterr().err
    (here / "pictures" / tiny_folder.name).symlink_to(tiny_folder)
    assert sfumato("replay", picture) == 0
    assert capsys.readouterr().out == "bit-identical\n"
    monkeypatch.chdir(here / "pictures")
    assert sfumato("replay", "cat.png") == 0
    (here / "other.json").write_text(replace(recipe, model_sha256="0" * 64).to_json())
    capsys.readouterr()
    assert sfumato("replay", here / "other.json", "--model", tiny_folder) == 0
    assert "differs: the model: made with" in capsys.readouterr().out
    for odd in ("", ".", "..", "unsaved", "a\0b"):
        (here / "odd.json").write_text(replace(recipe, model=odd).to_json())
        assert sfumato("replay", here / "odd.json") == 2
        assert capsys.readouterr().err.endswith("; pass --model PATH\n")


def test_replay_asks_no_network_because_a_picture_names_it(
    tiny_folder: Path, here: Path, capsys: OUTPUT, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[bool] = []

    def hub(model_id: str, *, local_files_only: bool, **options: object) -> str:
        asked.append(local_files_only)
        assert model_id == "owner/name"
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    common = ["--model", tiny_folder, "--steps", 1, "--seed", 1, "--out", "cat.png"]
    assert sfumato("generate", "cat", *common) == 0
    (here / "cat.json").write_text(replace(read_recipe(here / "cat.png"), model="owner/name").to_json())
    capsys.readouterr()
    assert sfumato("replay", "cat.json") == 2
    assert capsys.readouterr().err == (
        "error: cat.json was made with owner/name, which is not on this machine; pass --model owner/name to allow the "
        "download, or --model PATH\n"
    )
    assert set(asked) == {True}
    assert sfumato("replay", "cat.json", "--model", "owner/name") == 0
    assert asked[-1] is False
    assert capsys.readouterr().out == "bit-identical\n"


def test_inspect_a_model_and_pictures(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    assert sfumato("inspect", tiny_folder) == 0
    output = capsys.readouterr().out
    assert "UNet2DConditionModel" in output
    assert "sampler: plms, leading spacing" in output
    assert output.endswith("opens: yes\n")
    assert (
        sfumato("generate", "cat,\nblack", "--model", tiny_folder, "--steps", 1, "--out", "cat.png", "--seed", 1) == 0
    )
    capsys.readouterr()
    assert sfumato("inspect", "cat.png") == 0
    output = capsys.readouterr().out
    assert "cat,\\nblack" in output
    assert "pixels: as they were made" in output
    with Image.open(here / "cat.png") as image:
        save_image(Image.new("RGB", image.size), here / "black.png", read_recipe(here / "cat.png"))
    assert sfumato("inspect", "black.png") == 0
    assert "pixels: changed" in capsys.readouterr().out


def test_inspect_a_picture_of_another_program(here: Path, capsys: OUTPUT) -> None:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("parameters", "cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 3")
    Image.new("RGB", (8, 8)).save(here / "theirs.png", pnginfo=chunks)
    assert sfumato("inspect", "theirs.png") == 0
    output = capsys.readouterr().out
    assert "another program" in output
    assert "Euler a" in output
    Image.new("RGB", (8, 8)).save(here / "plain.png")
    assert sfumato("inspect", "plain.png") == 2
    assert "carries no recipe" in capsys.readouterr().err


def test_a_blocked_picture_is_said_and_not_filmed(tiny_folder_with_checker: Path, here: Path, capsys: OUTPUT) -> None:
    common = ["--model", tiny_folder_with_checker, "--steps", 1, "-n", 8, "--seed", 0, "--quiet"]
    assert sfumato("generate", "cat", *common, "--out", "c.png", "--animate", "c.gif") == 0
    err = capsys.readouterr().err
    blocked = {number for number in range(1, 9) if read_recipe(here / f"c-{number}.png").safety == "flagged"}
    assert blocked
    assert blocked == {number for number in range(1, 9) if f"note: picture {number}: the safety checker" in err}
    assert "(--safety off turns it off)" in err
    assert blocked == {number for number in range(1, 9) if not (here / f"c-{number}.gif").exists()}
    assert sfumato("generate", "cat", *common, "--no-safety", "--out", "d.png") == 0
    assert {read_recipe(here / f"d-{number}.png").safety for number in range(1, 9)} == {"off"}


def test_a_cut_prompt_is_said_once(tiny_folder: Path, here: Path, capsys: OUTPUT) -> None:
    prompt = "cat " * 80 + "unicorn"
    assert (
        sfumato(
            "generate",
            prompt,
            "-n",
            2,
            "--model",
            tiny_folder,
            "--steps",
            1,
            "--emphasis",
            "none",
            "--out",
            "cat.png",
            "--quiet",
        )
        == 0
    )
    err = capsys.readouterr().err
    assert err.count("note: ") == err.count("\n") == 1
    assert "unicorn" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "60x64"], "multiple of 8"),
        (["--steps", "0"], "--steps must be from 1 to 1000, not 0"),
        (["--steps", "10000"], "--steps must be from 1 to 1000, not 10000"),
        (["--guidance", "nan"], "--guidance must be a finite number"),
        (["--sampler", "eulr"], "did you mean Euler"),
        (["--spacing", "karas"], "did you mean karras"),
        (["--schedule", "karas"], "did you mean karras"),
        (["--sampler", "DPM++ 2M Carras"], "unknown sampler 'DPM++ 2M Carras'"),
        (["--sampler", "heun", "--eta", "0.5"], "eta 0.5 is only for DDIM"),
        (["--sampler", "restart", "--eta", "0.5"], "Restart has no eta"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--device", "cuda:99"], "CUDA device"),
        (["--device", "meta"], "not made on 'meta' devices"),
        (["--dtype", "int8"], "dtype"),
        (["--dtype", "float8_e4m3fn"], "dtype"),
        (["--clip-skip", "99"], "--clip-skip must"),
        (["--eta", "2"], "eta"),
        (["--out", "/proc/self/pictures/"], "can't write"),
        (["--model", "no/such/model/here"], "no model folder"),
        (["--model", "tests/__init__.py/none"], "model"),
    ],
)
def test_bad_input_is_one_line(tiny_folder: Path, here: Path, capsys: OUTPUT, options: list[str], message: str) -> None:
    model = [] if "--model" in options else ["--model", tiny_folder]
    assert sfumato("generate", "cat", *model, "--steps", 1, "--seed", 1, *options) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert os.listdir(here) == [], "not even an empty folder is left"


def test_ctrl_c_stops_within_a_step_and_keeps_what_is_finished(tiny_folder: Path, here: Path) -> None:
    """The second picture is interrupted in its second step of fifty; a real signal reaches a real process."""
    script = """
import os, signal, sys
# What a shell runs in the background is begun with interrupts ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from sfumato.cli import app
from sfumato.cli.progress import DrawingProgress
from sfumato.engine import StepDone
seen = []
listener = DrawingProgress.listener
def watched(self, first, count):
    listen = listener(self, first, count)
    def on_event(event):
        listen(event)
        if isinstance(event, StepDone):
            seen.append((first, event.step))
            if (first, event.step) == (1, 2):
                os.kill(os.getpid(), signal.SIGINT)
    return on_event
DrawingProgress.listener = watched
code = app.run(sys.argv[1:])
print(seen[-1], file=sys.stderr)
sys.exit(code)
"""
    arguments = [
        "generate",
        "cat",
        "-n",
        "3",
        "--steps",
        "50",
        "--seed",
        "1",
        "--device",
        "cpu",
        "--model",
        str(tiny_folder),
        "--out",
        "new/",
    ]
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 130
    assert result.stdout == f"{Path('new/cat-1.png')}\n"
    assert result.stderr == "stopped; what was finished is saved, and nothing half-written is left\n(1, 2)\n"
    assert os.listdir(here / "new") == ["cat-1.png"]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_the_bar_shows_step_rate_and_time_left(tiny_folder: Path, here: Path) -> None:
    terminal, its_end = os.openpty()
    arguments = [
        "generate",
        "cat",
        "-n",
        "2",
        "--steps",
        "30",
        "--seed",
        "1",
        "--model",
        str(tiny_folder),
        "--out",
        "cat.png",
    ]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sfumato", *arguments],
        stdout=subprocess.PIPE,
        stderr=its_end,
        text=True,
        env=environment,
    )
    os.close(its_end)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert printed == "cat-1.png\ncat-2.png\n", "paths go to stdout, whole, whatever the bar does"
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())  # without colours and cursor moves
    assert "opening the model" in text
    assert "picture 1 of 2" in text
    assert "/30" in text
    assert "steps/s" in text or "s/step" in text
    assert re.search(r"0:00:\d\d left", text)
