"""What a model's card does in a pipeline: unknown words are named, and the card goes where the model goes."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato
from sfumato.checkpoints.card import FILES

opened = sfumato.StableDiffusionPipeline.from_pretrained
NOTE = "unknown to this model: zorp, elefant (elephant?)"


@pytest.fixture
def carded(tiny_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "carded"
    shutil.copytree(tiny_folder, folder)
    (folder / "words.txt").write_text("a\nblurry\nelephant\nfox\nthe\n")
    (folder / "vocabulary.txt").write_text("elephant\nfox\n")
    (folder / "sfumato.json").write_text('{\n  "name": "tiny",\n  "num_inference_steps": 1\n}\n')
    return folder


@pytest.fixture
def pipe(carded: Path) -> Any:
    pipe = opened(carded)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def card_in(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def test_unknown_words_are_named_once_a_prompt(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    result = pipe("the zorp Elefant", negative_prompt="blurry quux", num_images_per_prompt=2, clip_skip=1)
    assert result.notes == [NOTE, "unknown to this model: quux"]
    assert [record.getMessage() for record in caplog.records] == result.notes
    assert pipe("two foxes, 3 foxes", negative_prompt="zorp", guidance_scale=1.0).notes == [
        "unknown to this model: two, foxes (fox?)"
    ]
    assert pipe("the fox").notes == []
    same = pipe(["zorp", "a zorp"], negative_prompt="zorp", clip_skip=1)
    assert same.notes == ["unknown to this model: zorp"]


def test_words_that_are_cut_are_said_to_be_cut(pipe: Any) -> None:
    cut, unknown = pipe("zorp " + "fox " * 90 + "quux").notes
    assert "not seen" in cut
    assert "quux" in cut
    assert unknown == "unknown to this model: zorp"


def test_embeddings_made_by_hand_and_replays_say_it_too(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    result = pipe("a zorp elefant", seeds=[1])
    caplog.clear()
    assert pipe.replay(result.recipes[0]).identical
    assert caplog.messages == [NOTE]
    caplog.clear()
    embeds, _ = pipe.encode_prompt("a zorp elefant", do_classifier_free_guidance=False)
    assert caplog.messages == [NOTE]
    assert pipe(prompt_embeds=embeds).notes == []


def test_a_model_that_does_not_say_its_words_says_nothing(tiny_folder: Path) -> None:
    pipe = opened(tiny_folder)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("zorp", num_inference_steps=1).notes == []
    assert pipe.card.vocabulary == ()


def test_a_model_that_was_changed_may_know_more(pipe: Any, tiny_folder: Path, tmp_path: Path) -> None:
    assert pipe.to(torch.bfloat16).to(torch.float32)("zorp").notes, "another precision is no change"
    with torch.no_grad():
        pipe.unet.conv_in.weight.add_(1)
    assert pipe("zorp").notes == []
    pipe.save_pretrained(tmp_path / "changed")
    assert card_in(tmp_path / "changed").keys() == {"sfumato.json"}
    assert opened(tmp_path / "changed").card.settings == {"num_inference_steps": 1}


def test_a_text_encoder_of_another_model_knows_other_words(carded: Path, tiny_folder: Path) -> None:
    pipe = opened(carded, text_encoder=opened(tiny_folder).text_encoder)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("zorp").notes == []


def test_the_card_goes_where_the_model_goes(pipe: Any, carded: Path, tmp_path: Path) -> None:
    before = card_in(carded)
    assert before.keys() == set(FILES)
    pipe.save_pretrained(tmp_path / "saved")
    assert card_in(tmp_path / "saved") == before
    pipe.save_pretrained(carded)
    assert card_in(carded) == before, "a card is part of the model that is replaced"
    again = opened(tmp_path / "saved")
    assert again.card == pipe.card
    again.defaults = {"num_inference_steps": 3, "height": 64}
    again.save_pretrained(tmp_path / "saved")
    assert opened(tmp_path / "saved").card.settings == {"name": "tiny", "num_inference_steps": 3, "height": 64}


def test_the_bundled_model_keeps_its_card(tmp_path: Path) -> None:
    opened(sfumato.bundled_model(), torch_dtype="auto").save_pretrained(tmp_path / "copy")
    assert card_in(tmp_path / "copy") == card_in(sfumato.bundled_model())
