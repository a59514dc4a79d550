from pathlib import Path

import pytest

from sfumato.cli.adapters import Lora, free, parse_embedding, parse_lora
from sfumato.errors import MissingFileError


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "style v1.5.safetensors"
    path.touch()
    return str(path)


@pytest.mark.parametrize(
    ("given", "weight", "text_weight"),
    [("", 1, 1), (":0.8", 0.8, 0.8), (":.5:0", 0.5, 0), (":-1:2.", -1, 2), (":1:+0.25", 1, 0.25)],
)
def test_a_lora_and_its_weights(file: str, given: str, weight: float, text_weight: float) -> None:
    assert parse_lora(file + given) == Lora(Path(file), weight, text_weight)


@pytest.mark.parametrize("given", [":x", ":1:2:3", ":", ":nan", ":1e5", ":0.5,0.5"])
def test_what_is_no_weight_is_part_of_a_name_that_is_nowhere(file: str, given: str) -> None:
    with pytest.raises(MissingFileError, match="FILE:WEIGHT:TEXT_WEIGHT"):
        parse_lora(file + given)


def test_a_file_whose_name_ends_like_weights_is_meant_itself(tmp_path: Path) -> None:
    (tmp_path / "x:0.5").touch()
    assert parse_lora(str(tmp_path / "x:0.5")) == Lora(tmp_path / "x:0.5")


def test_an_embedding_and_its_word(file: str) -> None:
    assert parse_embedding(file) == (Path(file), None)
    assert parse_embedding(f"{file}:<my-style>") == (Path(file), "<my-style>")
    for given in (f"{file}:", "nowhere.pt", "nowhere.pt:word", ":word"):
        with pytest.raises(MissingFileError, match="--embedding takes FILE or FILE:WORD"):
            parse_embedding(given)


def test_equal_names_get_numbers() -> None:
    assert free("a", {}) == "a"
    assert free("a", {"a": {}, "b": {}}) == "a 2"
    assert free("a", {"a": {}, "a 2": {}}) == "a 3"
