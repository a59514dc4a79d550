"""Real art as an autoencoder hands it on: about what a U-Net that draws it exactly would reach in the tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sfumato.errors import DataError
from sfumato.evaluation.evaluate import Drawn, asked_of
from sfumato.evaluation.judging import Judge
from sfumato.evaluation.prompts import KINDS, Kind, Repertoire
from sfumato.evaluation.real_art import compose
from sfumato.evaluation.scores import Score, tally
from sfumato.models import AutoencoderKL
from sfumato.training.data.pack import ArtDataset
from sfumato.training.vae import psnr, reconstruct


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedOn:
    """One kind of prompt: its pictures made of real art, the same through an autoencoder, and how far those are from them in dB."""

    kind: Kind
    before: tuple[Drawn, ...]
    after: tuple[Drawn, ...]
    psnr: float

    @property
    def scores(self) -> dict[str, tuple[Score, Score]]:
        """measure → the score of real art, and of real art through the autoencoder."""
        before, after = (tally(one.verdict.right for one in drawn) for drawn in (self.before, self.after))
        return {measure: (score, after[measure]) for measure, score in before.items()}


def hand_on(
    vae: AutoencoderKL,
    data: ArtDataset,
    judge: Judge,
    repertoire: Repertoire,
    *,
    count: int = 100,
    seed: int = 0,
    kinds: Sequence[Kind] = KINDS,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> list[HandedOn]:
    """Compose what up to `count` prompts of each kind ask for of real art, put it through an autoencoder, and judge both.

    Both are judged as a model's pictures are: only where a prompt names the style, drawings in that style are left out of the gallery.
    `progress` hears how many of how many are done. Raises DataError for data that the gallery was not made of, or pictures of a size that is not the
    autoencoder's; OptionError as `evaluate` does.
    """
    if data.size % vae.scale:
        raise DataError(f"the data has pictures of {data.size} px; the autoencoder takes multiples of {vae.scale}")
    if data.sha256 != judge.gallery.dataset_sha256:
        raise DataError(
            "the gallery was made of other data; give the data that it was made of, or make one of this: sfumato eval gallery DATASET"
        )
    row_of = {(record.thing, record.style): row for row, record in enumerate(data.records)}
    asked = asked_of(repertoire, count, seed, kinds)
    whole, done = sum(map(len, asked.values())), 0
    results: list[HandedOn] = []
    for kind, cases in asked.items():
        before: list[Drawn] = []
        after: list[Drawn] = []
        apart: list[float] = []
        for case in cases:
            picture = torch.tensor(compose(case, [data.pixels[row_of[of]] for of in case.art]))[None]
            remade = reconstruct(vae, picture)
            apart.append(psnr(picture, remade))
            for drawn, shown in ((before, picture[0].numpy()), (after, remade[0].numpy())):
                verdict = judge.judge(case, shown, hidden=case.style)
                drawn.append(Drawn(case=case, picture=shown, verdict=verdict))
            progress(done := done + 1, whole)
        if cases:
            results.append(HandedOn(kind=kind, before=tuple(before), after=tuple(after), psnr=sum(apart) / len(apart)))
    return results
