"""Options of the command on guidance, into options of a call."""

from pathlib import Path
from typing import Any

import pytest

from sfumato.cli.app import run
from sfumato.cli.guidance import guidance_options
from sfumato.errors import OptionError
from sfumato.images import read_recipe

NONE: dict[str, Any] = dict.fromkeys(("rescale", "interval", "pag_scale", "pag_adaptive", "pag_layers", "freeu"))


def test_what_is_not_given_is_not_said() -> None:
    assert guidance_options(**NONE) == {}


def test_what_is_given_is() -> None:
    given = {
        "rescale": 0.7,
        "interval": "0.1, 0.8",
        "pag_scale": 3.0,
        "pag_adaptive": 0.001,
        "freeu": "0.9,0.2,1.2,1.4",
    }
    assert guidance_options(**{**NONE, **given, "pag_layers": ["mid", "up"]}) == {
        "guidance_rescale": 0.7,
        "guidance_interval": [0.1, 0.8],
        "pag_scale": 3.0,
        "pag_adaptive_scale": 0.001,
        "pag_applied_layers": ["mid", "up"],
        "freeu": [0.9, 0.2, 1.2, 1.4],
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interval": "0.5"}, "--guidance-interval is '0.5'; expected START,END, 2 numbers"),
        ({"interval": "0.1,much"}, "expected START,END"),
        ({"freeu": "1,1,1"}, "--freeu is '1,1,1'; expected S1,S2,B1,B2, 4 numbers"),
        ({"pag_layers": ["mid"]}, "--pag-layers needs --pag-scale"),
        ({"pag_adaptive": 0.1}, "--pag-adaptive needs --pag-scale"),
    ],
)
def test_what_can_t_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        guidance_options(**{**NONE, **wrong})


def test_the_command_draws_records_and_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    words = ["generate", "a red apple", "--seed", "1", "--steps", "2", "--out", str(path), "--guidance-rescale", "0.7"]
    words += ["--guidance-interval", "0.5,1", "--pag-scale", "3", "--pag-layers", "up", "--freeu", "0.9,0.2,1.2,1.4"]
    assert run(words) == 0
    assert read_recipe(path).guidance == {
        "guidance_rescale": 0.7,
        "guidance_interval": [0.5, 1.0],
        "pag_scale": 3.0,
        "pag_adaptive_scale": 0.0,
        "pag_applied_layers": ["up"],
        "freeu": {"s1": 0.9, "s2": 0.2, "b1": 1.2, "b2": 1.4},
    }
    capsys.readouterr()
    assert run(["replay", str(path)]) == 0
    assert capsys.readouterr().out == "bit-identical\n"
    assert run(["generate", "a red apple", "--pag-layers", "up"]) == 2
    assert "--pag-layers needs --pag-scale" in capsys.readouterr().err
