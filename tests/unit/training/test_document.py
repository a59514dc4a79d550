"""What docs/training.md says can be typed can be typed: commands parse, configs and keys are there, the shell's part runs."""

import re
import shlex
import subprocess
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
import typer.main

from sfumato.cli.app import app
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.config import config_path
from sfumato.training.vae import VAETrainConfig

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs/training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", DOCUMENT, re.DOTALL)
# What a script reads from a file is a time of day.
LINES = [
    re.sub(r"^python3 -m sfumato", "sfumato", line).replace('"$(cat runs/until)"', "14:05:00")
    for block in BLOCKS
    for line in block.splitlines()
]
COMMANDS = [line for line in LINES if line.startswith("sfumato ")]


def block_with(text: str) -> str:
    (block,) = (block for block in BLOCKS if text in block)
    return block


@pytest.mark.parametrize("line", dict.fromkeys(COMMANDS))
def test_commands_parse(line: str):
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(app)
    context = click.Context(command)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        name = words.pop(0) if words and words[0] in command.commands else None
        if name is None:
            break
        command = command.commands[name]
        context = click.Context(command, parent=context, info_name=name)
    command.parse_args(context, words)


def test_all_stages_are_told_in_order():
    stages = [" ".join(line.split()[1:3]) for line in COMMANDS]
    for start in (i for i, line in enumerate(COMMANDS) if line.startswith("sfumato train vae")):
        assert stages[start - 1 : start + 2] == ["data build", "train vae", "train base"]
        assert "--export" in COMMANDS[start + 1] or stages[start + 2] == "train export"


def test_configs_that_are_named_are_there():
    named = {line.split()[3] for line in COMMANDS if line.startswith("sfumato train")}
    for name in named:
        assert config_path(name).parent.name == "configs"


def test_keys_that_are_told_of_are_keys():
    def keys(config: type) -> set[str]:
        hints = get_type_hints(config)
        inner = [keys(hints[field.name]) for field in fields(config) if is_dataclass(hints[field.name])]
        return {field.name for field in fields(config)}.union(*inner)

    told = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DOCUMENT, re.MULTILINE))))
    assert len(told) > 12
    assert told <= keys(BaseTrainConfig) | keys(VAETrainConfig)


def test_model_comes_back_as_it_left(tmp_path: Path):
    there, here = tmp_path / "there", tmp_path / "here"
    model = there / "runs/model-256"
    (model / "unet").mkdir(parents=True)
    (there / "runs/out").mkdir()
    (model / "model_index.json").write_text("{}")
    (model / "unet" / "weights").write_bytes(bytes(range(256)) * 65536 * 2)
    subprocess.run(["bash", "-ec", block_with("split -b")], cwd=there, check=True)
    parts = list((there / "runs/out").glob("model.tar.*"))
    assert len(parts) == 3
    assert all(part.stat().st_size < 16 * 2**20 for part in parts)
    here.mkdir()
    (here / "runs").mkdir()
    (there / "runs/out").rename(here / "runs/out")
    subprocess.run(["bash", "-ec", block_with("tar -C runs/model-256 -x")], cwd=here, check=True)
    back = {
        p.relative_to(here / "runs/model-256"): p.read_bytes()
        for p in (here / "runs").glob("model-256/**/*")
        if p.is_file()
    }
    assert back == {p.relative_to(model): p.read_bytes() for p in model.glob("**/*") if p.is_file()}


def test_scripts_that_are_written_are_scripts(tmp_path: Path):
    block = block_with("cat > runs/base.sh")
    (tmp_path / "runs").mkdir()
    subprocess.run(["bash", "-ec", block[block.index("cat >") :]], cwd=tmp_path, check=True)
    for name in ("vae", "base"):
        subprocess.run(["bash", "-n", f"runs/{name}.sh"], cwd=tmp_path, check=True)
        written = (tmp_path / f"runs/{name}.sh").read_text().splitlines()
        assert written[0] == "set -e"
        assert written[-1].startswith(f"python3 -m sfumato train {name} ")
