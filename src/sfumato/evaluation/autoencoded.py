"""Real art as an autoencoder hands it on: the most that a U-Net before it can reach in the tests."""

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

    Every picture is compared with drawings in other styles than its own, as real art's scores are taken. `progress` hears how many of how
    many are done. Raises DataError where the data lacks a drawing that a prompt is about or has pictures of another size, OptionError as `evaluate` does.
    """
    if data.size % vae.scale:
        raise DataError(f"the data has pictures of {data.size} px; the autoencoder takes multiples of {vae.scale}")
    row_of = {(record.thing, record.style): row for row, record in enumerate(data.records)}
    asked = asked_of(repertoire, count, seed, kinds)
    whole, done = sum(map(len, asked.values())), 0
    results: list[HandedOn] = []
    for kind, cases in asked.items():
        before: list[Drawn] = []
        after: list[Drawn] = []
        apart: list[float] = []
        for case in cases:
            if lacking := [of for of in case.art if of not in row_of]:
                thing, style = lacking[0]
                raise DataError(
                    f"the data has no {thing} in {style} style, which the gallery has; give the data that the gallery was made of"
                )
            picture = torch.tensor(compose(case, [data.pixels[row_of[of]] for of in case.art]))[None]
            remade = reconstruct(vae, picture)
            apart.append(psnr(picture, remade))
            for drawn, shown in ((before, picture[0].numpy()), (after, remade[0].numpy())):
                verdict = judge.judge(case, shown, hidden=case.art[0][1])
                drawn.append(Drawn(case=case, picture=shown, verdict=verdict))
            progress(done := done + 1, whole)
        if cases:
            results.append(HandedOn(kind=kind, before=tuple(before), after=tuple(after), psnr=sum(apart) / len(apart)))
    return results
