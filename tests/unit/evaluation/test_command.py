"""`sfumato eval` and `sfumato eval gallery`, as they are typed."""

import json
from dataclasses import replace
from functools import partial

import pytest

import sfumato.evaluation
from sfumato.cli.app import run
from sfumato.evaluation import Baseline, read_gallery, real_art
from sfumato.evaluation.gallery import default_gallery_path
from sfumato.evaluation.scores import Score
from sfumato.training.data.pack import write_dataset

from .conftest import STYLES, THINGS

# One picture, in one step: what is drawn does not matter here.
BRIEF = ("eval", "--count", "1", "--only", "trained", "--quiet")


def test_it_prints_a_table_and_writes_results_and_sheets(tmp_path, capsys):
    folder = tmp_path / "results"
    assert run([*BRIEF, "--steps", "1", "--guidance", "1", "--only", "backgrounds", "--out", str(folder)]) == 0
    said = capsys.readouterr()
    table, paths = said.out.splitlines()[:-3], said.out.splitlines()[-3:]
    assert table[0].split()[:2] == ["prompts", "what"]
    assert [line.split()[0] for line in table if line[0] != " "] == ["prompts", "trained", "backgrounds"]
    assert paths == [str(folder / name) for name in ("results.json", "trained.png", "backgrounds.png")]
    content = json.loads((folder / "results.json").read_text())
    assert content["model"]["name"] == "sfumato/bundled"
    assert content["model"]["num_inference_steps"] == 1
    assert list(content["kinds"]) == ["trained", "backgrounds"]
    assert run([*BRIEF, "--steps", "1", "--out", str(folder)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_under_the_baseline_it_says_so_and_exits_with_1(tmp_path, capsys, monkeypatch):
    scores = {"trained": {"style": Score(0, 10**6), "top1": Score(10**6, 10**6)}}
    perfect = Baseline(model_sha256="", gallery_sha256=read_gallery().sha256, count=1, seed=0, scores=scores)
    monkeypatch.setattr(sfumato.evaluation, "read_baseline", lambda: perfect)
    monkeypatch.setattr(Score, "floor", lambda self, of: 1.1 * self.share)
    assert run([*BRIEF, "--out", str(tmp_path / "results")]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: the bundled model scores under its baseline: trained top1 ")
    assert len(said.err.splitlines()) == 1
    assert (tmp_path / "results/results.json").exists()
    # Compared with a gallery of one's own, there is nothing to be under.
    capsys.readouterr()
    assert run([*BRIEF, "--gallery", str(default_gallery_path()), "--out", str(tmp_path / "own")]) == 0
    other = replace(perfect, gallery_sha256="another")
    monkeypatch.setattr(sfumato.evaluation, "read_baseline", lambda: other)
    assert run([*BRIEF, "--out", str(tmp_path / "again")]) == 1
    assert "another gallery" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--count", "0"), "the count is 0; expected 1 or more prompts of each kind"),
        (("--seed", "-1"), "the seed is -1; expected 0 or more"),
        (("--only", "trianed"), "unknown kind of prompts 'trianed'; did you mean trained?"),
        (("--write-baseline", "--only", "trained"), "the baseline is the bundled model's"),
        (("--write-baseline", "--gallery", "mine.safetensors"), "the baseline is the bundled model's"),
        (("--gallery", "no/such/file"), "no gallery at no/such/file"),
        (("--model", "no/such/folder"), "no/such/folder"),
    ],
)
def test_what_can_t_be_done_is_told_in_one_line(tmp_path, capsys, options, message):
    assert run(["eval", *options, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_baseline_is_written(tmp_path, capsys, monkeypatch):
    written = []
    monkeypatch.setattr(sfumato.evaluation, "write_baseline", lambda one: written.append(one) or "baseline.json")
    monkeypatch.setattr(sfumato.evaluation, "KINDS", ("trained",))
    assert run(["eval", "--count", "1", "--write-baseline", "--quiet", "--out", str(tmp_path)]) == 0
    assert "the baseline is now these scores: baseline.json" in capsys.readouterr().err
    assert written[0].scores["trained"]["top1"].of == 1
    assert len(written[0].model_sha256) == 64


def test_a_gallery_is_made_of_a_dataset(tmp_path, capsys, art, monkeypatch):
    monkeypatch.setattr(real_art, "build_gallery", partial(real_art.build_gallery, cases=1))
    write_dataset(tmp_path / "art.safetensors", list(art.pixels), art.records)
    path = tmp_path / "gallery.safetensors"
    assert run(["eval", "gallery", str(tmp_path / "art.safetensors"), "--out", str(path), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert read_gallery(path).dataset_sha256 == art.sha256
    few = tmp_path / "few.safetensors"
    assert (
        run(["eval", "gallery", str(tmp_path / "art.safetensors"), "--things", "2", "--out", str(few), "--quiet"]) == 0
    )
    assert set(read_gallery(few).things) == {"square", "cross"}
    capsys.readouterr()
    assert run(["eval", "gallery", str(tmp_path / "none.safetensors"), "--out", str(path)]) == 2
    assert "sfumato data build" in capsys.readouterr().err


def test_an_autoencoder_is_judged_by_what_it_leaves_of_real_art(tmp_path, capsys, art, monkeypatch):
    monkeypatch.setattr(real_art, "build_gallery", partial(real_art.build_gallery, cases=1))
    # Shapes under names that the bundled model knows.
    called = dict(zip(THINGS, ("pizza", "rocket", "tomato", "guitar", "castle"), strict=True))
    styled = dict(zip(STYLES, ("3d", "flat", "noto"), strict=True))
    records = [
        replace(one, thing=called[one.thing], names=(called[one.thing],), style=styled[one.style])
        for one in art.records
    ]
    data, gallery = tmp_path / "art.safetensors", tmp_path / "gallery.safetensors"
    write_dataset(data, list(art.pixels), records)
    assert run(["eval", "gallery", str(data), "--out", str(gallery), "--quiet"]) == 0
    capsys.readouterr()
    asked = ("eval", "autoencoder", str(data), "--gallery", str(gallery), "--count", "2", "--quiet")
    assert run([*asked, "--only", "two_things", "--only", "trained"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == [
        "prompts",
        "what",
        "is",
        "right",
        "pictures",
        "real",
        "art",
        "through",
        "between",
        "ratio",
        "PSNR",
    ]
    assert [line.split()[0] for line in table[1:] if line[0] != " "] == ["trained", "two_things"]
    assert all(line.split()[-1] == "dB" for line in table[1:] if line[0] != " ")
    found = next(line for line in table if "both found" in line).replace("dB", "").split()
    pictures, real, through, between, ratio, psnr = found[-6:]
    low, high = map(float, between.split("–"))
    assert (pictures, float(real) > 0, low <= float(through) <= high) == ("2", True, True)
    assert float(ratio) == pytest.approx(float(through) / float(real), abs=0.01)
    assert 0 < float(psnr) < 60
    assert run([*asked, "--only", "trianed"]) == 2
    assert "did you mean trained?" in capsys.readouterr().err
    assert run(["eval", "autoencoder", str(data), "--count", "1", "--only", "trained", "--quiet"]) == 2
    assert "the gallery was made of other data" in capsys.readouterr().err
