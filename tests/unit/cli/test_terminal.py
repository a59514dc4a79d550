import ast
import re
from pathlib import Path

import pytest

import sfumato
from sfumato.cli.terminal import CURES, LONGEST, WIDEST, in_options, say_error, say_note, table
from sfumato.errors import OptionError

OUTPUT = pytest.CaptureFixture[str]
PACKAGE = Path(sfumato.__file__).parent
# What the command calls once it has parsed its words: what these say, it shows.
REACHED = [
    *PACKAGE.glob("engine/*.py"),
    *(PACKAGE / "pipeline" / f"{name}.py" for name in ("decoding", "placement", "request", "safety", "conditioning")),
]
PYTHON = re.compile(r"\.to\(|\btorch\.|\bpipe\.|\w+=(None|True|False)\b|num_inference_steps must|guidance_scale must")


def said(path: Path) -> list[str]:
    """Every text of a module that is part of a message: its strings, and those of its f-strings, but no docstring or name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
    return [node.value for node in texts if isinstance(node.value, str) and " " in node.value]


def test_the_library_s_cures_are_said_as_options() -> None:
    """The command's reader writes no Python: whatever the library advises has an entry in the table, and none is stale."""
    texts = [text for path in REACHED for text in said(path)]
    assert len(texts) > 50
    # "torch." is stripped from a dtype's name, for what is printed.
    assert [text for text in texts if PYTHON.search(in_options(text))] == []
    everything = "\n".join(
        path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if "cli" not in path.parts
    )
    for library, _ in CURES:
        code = library.removesuffix(" must")  # names stand in calls, and the word in the check
        assert code in everything.replace('\\"', '"') or code.removeprefix("; ") in everything, (
            f"nothing says {library!r}"
        )


def test_devices_are_cured_by_the_option() -> None:
    torch = pytest.importorskip("torch")
    from sfumato.pipeline.placement import parse_target

    for device, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not there:
            with pytest.raises(OptionError) as raised:
                parse_target(device)
            assert in_options(str(raised.value)).endswith("; use --device cpu")


def test_an_error_is_one_line(capsys: OUTPUT) -> None:
    say_error("out of memory\nsee the manual")
    assert capsys.readouterr().err == "error: out of memory see the manual\n"


def test_what_a_file_has_in_it_moves_no_cursor_and_fills_no_pages(capsys: OUTPUT) -> None:
    for say in (say_error, say_note):
        say("x.ckpt: a name is \x1b[2J\rgone\x9b and 東京 " + "x" * 10_000 + ": no such name")
        err = capsys.readouterr().err
        assert err.split(": ", 1)[1].startswith(r"x.ckpt: a name is \x1b[2J\rgone\x9b and 東京 xxx")
        assert err.endswith("xxx: no such name\n")
        assert "xxx…xxx" in err
        assert len(err) < LONGEST + 20


def test_a_table_is_harmless(capsys: OUTPUT) -> None:
    table([("name", "value"), ("\x1b[31mred", "a\rb"), ("x" * 1000, "東京"), ("y", "z")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [r"\x1b[31mred", r"a\rb"]
    assert lines[2] == f"{'x' * 1000}  東京"
    assert lines[3] == f"y{' ' * (WIDEST + 1)}z"
