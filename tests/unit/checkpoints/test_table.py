"""The tables of docs/checkpoints.md against the tests that their cells stand for."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from tiny_families import FAMILIES, IN_ONE_FILE

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/checkpoints.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


def rows_under(heading: str) -> list[list[str]]:
    """The rows of the first table after a heading, its header first."""
    lines = TEXT.split(f"\n{heading}\n", 1)[1].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|"))
    end = next((at for at, line in enumerate(lines[start:], start) if not line.startswith("|")), len(lines))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:end]]
    return [table[0], *table[2:]]


HEADER, *FAMILY_ROWS = rows_under("## Families")
ROWS = {cells[1].strip("`"): dict(zip(HEADER, cells, strict=True)) for cells in FAMILY_ROWS}
BEHIND: dict[str, list[tuple[str, str]]] = {
    column: re.findall(r"`([^`]+)::([^`]+)`", tests)
    for column, tests in rows_under("### The test behind each column")[1:]
}


@cache
def functions(path: str) -> dict[str, ast.FunctionDef]:
    """The tests of a file by name, read without importing the libraries it imports."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def families_of(path: str, test: str) -> set[str]:
    """The families that a test runs over: what stands beside "name" in its parametrize, a list of tiny_families or of its file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    lists = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for mark in functions(path)[test].decorator_list:
        if isinstance(mark, ast.Call) and isinstance(mark.args[0], ast.Constant) and mark.args[0].value == "name":
            assert isinstance(mark.args[1], ast.Name), f"{test} runs over something that has no name"
            named = mark.args[1].id
            shared = {"FAMILIES": FAMILIES, "IN_ONE_FILE": IN_ONE_FILE}
            return set(shared[named]) if named in shared else set(ast.literal_eval(lists[named]))
    return set()


def test_every_family_is_in_the_table() -> None:
    assert ROWS.keys() == FAMILIES.keys()


@pytest.mark.parametrize(("path", "test"), sorted(set(NAMED)))
def test_the_tests_that_are_named_are_there(path: str, test: str) -> None:
    assert (ROOT / path).is_file()
    assert test in functions(path)
    assert test.startswith("test_")


def test_every_tick_has_a_test_of_its_family() -> None:
    ticked = {column for row in ROWS.values() for column, cell in row.items() if cell == "✓"}
    assert BEHIND.keys() == ticked - {"text to image"}
    for column, tests in BEHIND.items():
        tested = set[str]().union(*(families_of(*test) for test in tests))
        assert {name for name, row in ROWS.items() if row[column] == "✓"} == tested, column


def test_every_layout_names_its_tests() -> None:
    header, *rows = rows_under("## Layouts")
    assert header[-1] == "tests"
    assert all(re.search(r"`tests/[\w/]+\.py::\w+`", row[-1]) for row in rows)


def test_what_draws_from_text_alone_is_what_needs_nothing_else() -> None:
    for name, row in ROWS.items():
        if FAMILIES[name].needs:
            assert row["text to image"].removeprefix("needs ") in FAMILIES[name].needs
        else:
            assert row["text to image"] == "✓"
