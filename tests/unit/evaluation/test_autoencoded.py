"""What an autoencoder leaves of real art in the tests."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.errors import DataError, OptionError
from sfumato.evaluation.autoencoded import hand_on
from sfumato.evaluation.judging import Judge
from sfumato.evaluation.prompts import Repertoire
from sfumato.models import AutoencoderKL, VAEConfig
from sfumato.training.data.pack import ArtDataset


class Exact(AutoencoderKL):
    """Hands on what it is given, or white."""

    def __init__(self, *, white: bool = False) -> None:
        super().__init__(VAEConfig(channels=(8, 8, 8), blocks_per_level=1, norm_groups=4, sample_size=48))
        self.white = white

    def forward(self, pixels: Tensor, noise: Tensor | None = None):  # type: ignore[override]
        """The pixels, and nothing of a distribution."""
        return (torch.ones_like(pixels) if self.white else pixels), None


@pytest.fixture(scope="module")
def judge(gallery, classifier) -> Judge:
    return Judge(gallery, classifier)


@pytest.fixture(scope="module")
def repertoire(gallery) -> Repertoire:
    return Repertoire(gallery.entries)


def test_an_exact_one_leaves_every_score_and_a_blank_one_none(art, judge, repertoire):
    for white in (False, True):
        results = hand_on(Exact(white=white), art, judge, repertoire, count=4)
        assert next(one.kind for one in results) == "trained"
        assert {"two_things", "held_out"} <= {one.kind for one in results}
        for one in results:
            assert len(one.before) == len(one.after) <= 4
            before, after = (sum(score[side].right for score in one.scores.values()) for side in (0, 1))
            if white:
                assert after < before
                assert one.psnr < 20
                assert all(drawn.picture is not None and (drawn.picture == 255).all() for drawn in one.after)
            else:
                assert after == before > 0
                assert one.psnr > 70
                assert all(
                    b.picture is not None and np.array_equal(a.picture, b.picture)
                    for a, b in zip(one.before, one.after, strict=True)
                )  # type: ignore[arg-type]


def test_pictures_are_judged_as_a_models_are(art, judge, repertoire):
    """What is hidden is the prompt's style: nothing where it names none, as when a model's pictures are judged."""
    heard: list[tuple[str | None, str | None]] = []

    class Listening(Judge):
        def judge(self, case, picture, *, hidden: str | None):
            heard.append((hidden, case.style))
            return super().judge(case, picture, hidden=hidden)

    hand_on(Exact(), art, Listening(judge.gallery, judge.classifier), repertoire, count=8, kinds=["two_things"])
    assert len(heard) == 16
    assert all(hidden == style for hidden, style in heard)
    assert len({style is None for _, style in heard}) == 2


def test_what_cannot_be_asked_is_said(art, judge, repertoire):
    with pytest.raises(OptionError, match="the count is 0"):
        hand_on(Exact(), art, judge, repertoire, count=0)
    fewer = ArtDataset(art.pixels[:3], art.records[:3])
    with pytest.raises(DataError, match="the gallery was made of other data"):
        hand_on(Exact(), fewer, judge, repertoire, count=9)
    other = ArtDataset(art.pixels[:, :46, :46], tuple(replace(record) for record in art.records))
    with pytest.raises(DataError, match="pictures of 46 px; the autoencoder takes multiples of 4"):
        hand_on(Exact(), other, judge, repertoire, count=1)
