"""What a base run makes ready while another process still trains its autoencoder: scenes, tokens, compiled networks."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.errors import TrainingError
from sfumato.text import Tokenizer
from sfumato.training.base_config import BaseTrainConfig
from sfumato.training.data.scenes import SceneMaker
from sfumato.training.learner import Learner
from sfumato.training.pool import Composed
from sfumato.training.run import is_under_way
from sfumato.training.scene_set import compose_scenes
from sfumato.training.tokens import caption_tokens, tokenizer_of_run
from sfumato.training.vae import FINISHED

_LOOK_AGAIN = 0.5  # seconds until it is looked again whether the autoencoder is ready


@dataclass(frozen=True, slots=True)
class Ahead:
    """Scenes as pixels (in parts, to be taken out one by one: they are gigabytes), and what their captions make known."""

    composed: deque[Composed]
    tokenizer: Tokenizer
    tokens: Tensor
    learner: Learner


def make_ready(
    config: BaseTrainConfig, maker: SceneMaker, device: torch.device, progress: Callable[[str], None]
) -> Ahead:
    """Compose a run's scenes and have its networks compiled, at the same time. Raises TrainingError and OutputError as `compose_scenes` does."""
    tokenizer = tokenizer_of_run(maker.data, config.text)
    given_up = threading.Event()

    def compose() -> deque[Composed]:
        parts = deque[Composed]()
        for part in compose_scenes(maker, config.scenes, config.captions, config.workers, progress):
            if given_up.is_set():
                break
            parts.append(part)
        return parts

    with ThreadPoolExecutor(1) as beside:
        composing = beside.submit(compose)
        try:
            learner = Learner(config, tokenizer, device)
            learner.warm_up(progress=progress)
            composed = composing.result()
        except BaseException:
            given_up.set()
            raise
    captions = [wordings for part in composed for wordings in part.captions]
    return Ahead(composed, tokenizer, caption_tokens(tokenizer, captions), learner)


class Awaited:
    """An autoencoder's run that another process is at, from now until its end."""

    def __init__(self, run: Path | str) -> None:
        self.run = Path(run)
        self._before = self._finished()

    def wait(self, progress: Callable[[str], None]) -> None:
        """Wait for the run's end. Raises TrainingError when it ended without an autoencoder: it failed, or was stopped."""
        progress(f"waiting for the autoencoder that is being trained in {self.run}")
        while is_under_way(self.run):
            time.sleep(_LOOK_AGAIN)
        if self._finished() in (None, self._before):
            raise TrainingError(
                f"the run in {self.run} ended without an autoencoder; see what it said, have it end, and start this one again."
            )

    def _finished(self) -> int | None:
        try:
            return (self.run / FINISHED).stat().st_mtime_ns
        except OSError:
            return None
