"""Prompts at the command as a person writes them, and the examples of docs/prompts.md."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sfumato.cli.app import run
from sfumato.images import read_recipe

OUTPUT = pytest.CaptureFixture[str]
DOCUMENT = (Path(__file__).parents[2] / "docs/prompts.md").read_text(encoding="utf-8")


def sfumato(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


@pytest.fixture
def here(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / tiny_folder.name).symlink_to(tiny_folder)  # replay looks for it by its own name
    (tmp_path / "model").symlink_to(tiny_folder)
    return tmp_path


COMMON = ["--model", "model", "--steps", 3, "--seed", 1, "--device", "cpu", "--quiet"]


def drawn(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_command_reads_a1111_s_words_and_others_when_told(here: Path, capsys: OUTPUT) -> None:
    for name, emphasis in (("plain", []), ("none", ["--emphasis", "none"])):
        assert sfumato("generate", "a fox", *COMMON, *emphasis, "--out", f"{name}.png") == 0
        assert sfumato("generate", "a (fox:1.4)", *COMMON, *emphasis, "--out", f"{name}-weighted.png") == 0
    assert np.array_equal(drawn(here / "plain.png"), drawn(here / "none.png"))
    assert not np.array_equal(drawn(here / "plain.png"), drawn(here / "plain-weighted.png"))
    assert not np.array_equal(drawn(here / "none-weighted.png"), drawn(here / "plain-weighted.png"))
    assert read_recipe(here / "plain.png").emphasis == "a1111"
    assert read_recipe(here / "none.png").emphasis == "none"
    capsys.readouterr()
    for name in ("plain-weighted", "none-weighted"):
        assert sfumato("replay", f"{name}.png") == 0
    assert capsys.readouterr().out == "bit-identical\n" * 2


def test_wildcards_are_drawn_with_each_picture_s_seed_and_recorded(here: Path) -> None:
    (here / "lists").mkdir()
    (here / "lists/animal.txt").write_text("fox\nowl\nseal\n", encoding="utf-8")
    arguments = ["a {red|green|blue} __animal__", *COMMON, "-n", 6, "--wildcards", "lists", "--out"]
    for name in ("a.png", "b.png"):
        assert sfumato("generate", *arguments, name) == 0
    prompts = [[read_recipe(here / f"{name}-{i}.png").prompt for i in range(1, 7)] for name in "ab"]
    assert prompts[0] == prompts[1]
    assert len(set(prompts[0])) > 1
    assert all(re.fullmatch("a (red|green|blue) (fox|owl|seal)", prompt or "") for prompt in prompts[0])
    assert sfumato("generate", "a {red|green} fox", *COMMON, "--emphasis", "comfy", "--out", "c.png") == 0
    assert read_recipe(here / "c.png").prompt == "a {red|green} fox"


def test_styles_go_around_prompts_and_negatives(here: Path, capsys: OUTPUT) -> None:
    (here / "styles.csv").write_text('name,prompt,negative_prompt\nInk,"{prompt}, ink",photo\n', encoding="utf-8")
    assert sfumato("generate", "a fox", *COMMON, "--negative", "blur", "--style", "Ink", "--out", "a.png") == 0
    recipe = read_recipe(here / "a.png")
    assert (recipe.prompt, recipe.negative_prompt) == ("a fox, ink", "blur, photo")
    (here / "styles.csv").rename(here / "other.csv")
    capsys.readouterr()
    assert sfumato("generate", "a fox", *COMMON, "--style", "Inc", "--styles", "other.csv", "--out", "b.png") == 2
    assert "did you mean Ink" in capsys.readouterr().err
    assert sfumato("generate", "a fox", *COMMON, "--style", "Ink", "--out", "b.png") == 2
    assert "styles.csv" in capsys.readouterr().err


def test_prompts_call_what_lora_brings(here: Path, capsys: OUTPUT) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
    g = torch.Generator().manual_seed(0)
    tensors = {f"{name}.lora_down.weight": torch.randn(2, 32, generator=g), f"{name}.lora_up.weight": torch.randn(32, 2, generator=g), f"{name}.alpha": torch.tensor(2.0)}  # fmt: skip
    save_file(tensors, here / "style.safetensors")
    prompts = ["a fox <lora:style:0.25>", "a fox <lora:style:0.5>", "a fox"]
    assert sfumato("generate", *prompts, *COMMON, "--lora", "style.safetensors", "--out", "a.png") == 0
    weights = [read_recipe(here / f"a-{i}.png").adapters[0].weights["unet"] for i in (1, 2, 3)]
    assert weights == [0.25, 0.5, 1.0]
    capsys.readouterr()
    assert sfumato("generate", "a fox <lora:other>", *COMMON, "--lora", "style.safetensors", "--out", "b.png") == 2
    assert capsys.readouterr().err == (
        "error: the prompt calls 'other', and no adapter of that name is loaded (loaded: style); add it with --lora FILE\n"
    )


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--emphasis", "A1111"], "--emphasis must be one of none, a1111"),
        (["--emphasis", "comfy", "--wildcards", "."], "--wildcards has no effect with --emphasis comfy"),
        (["--wildcards", "nowhere"], "there is no folder nowhere"),
        (["--styles", "styles.csv"], "add --style NAME"),
    ],
)
def test_what_can_t_be_is_one_line(here: Path, capsys: OUTPUT, extra: list[str], said: str) -> None:
    assert sfumato("generate", "a fox", *COMMON, *extra, "--out", "a.png") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (here / "a.png").exists()


def test_a_prompt_is_explained(here: Path, capsys: OUTPUT) -> None:
    text = "a [red:green:2] (apple:1.5) AND fog :0.5 <lora:x:0.3:0.7> <hypernet:y:1>"
    assert sfumato("explain-prompt", text, "--steps", 4, "--model", "model", "--negative", "[blur]") == 0
    said = capsys.readouterr().out
    for line in (
        "added to the model: x, 0.7 of it for the U-Net, 0.3 for the text encoder",
        "steps 1–2",
        "steps 3–4",
        "  part 1 of 2, weight 1",
        "  part 2 of 2, weight 0.5",
        "  window 1 of 1: 3 of 75 tokens",
        "    1.5      1  apple",
        "    1        2  a green",
        "note: <hypernet:y:1> is dropped: there is nothing of the kind 'hypernet' here",
        "negative prompt: [blur]",
        "    0.9091   1  blur",
    ):
        assert line in said.splitlines()
    assert sfumato("explain-prompt", "a " * 80, "--model", "model", "--emphasis", "none") == 0
    assert "not seen: 'a a a a a'" in capsys.readouterr().out
    assert sfumato("explain-prompt", "[a|b]", "--steps", 99) == 0
    assert "… and 75 more changes up to step 99" in capsys.readouterr().out
    assert sfumato("explain-prompt", "a", "--steps", 0) == 2
    assert sfumato("explain-prompt", "a", "--model", "no/model/here") == 2


def test_the_document_s_python_is_so() -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 8
    exec(compile("\n".join(blocks), "docs/prompts.md", "exec"), {})


def test_the_document_s_command_says_what_it_shows(capsys: OUTPUT) -> None:
    ((command, shown),) = re.findall(r"```bash\nsfumato (.*?)\n```\n```text\n(.*?)```", DOCUMENT, re.DOTALL)
    assert run(shlex.split(command)) == 0
    assert capsys.readouterr().out == shown
