"""`--memory`, and what `sfumato inspect` says of drawing."""

import pytest

from sfumato.cli.inspect_weights import show_drawing
from sfumato.cli.opening import open_model
from sfumato.errors import OptionError
from sfumato.variants import FAMILIES


def test_a_budget_is_kept_on_a_cpu_alone() -> None:
    with pytest.raises(OptionError, match="--memory is kept on a CPU alone"):
        open_model(None, device="cuda", memory="1GB")


def test_what_is_no_budget_is_refused() -> None:
    with pytest.raises(OptionError, match="memory is 'lots'"):
        open_model(None, memory="lots")


def test_inspect_says_what_drawing_takes(capsys: pytest.CaptureFixture[str]) -> None:
    family = FAMILIES["sd1"]
    configs = {"unet": family.unet, "vae": family.vae, **family.text_encoders}
    show_drawing(configs, dict.fromkeys(configs, 10**9 // 3))
    said = capsys.readouterr().out
    assert "drawing 512 × 512 on a CPU" in said
    assert "with --memory min" in said
    show_drawing({"vae": family.vae}, {})
    assert capsys.readouterr().out == ""
