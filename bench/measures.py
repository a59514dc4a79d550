"""What is measured: each measure is one question, the contenders that answer it in pairs, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

OPENING = ("step", "encode", "decode", "load", "picture", "requests")
"""Tasks that open a checkpoint."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One of ours and the peer that runs beside it; None for none."""

    ours: str
    peer: str | None = None


def against(ours: str, *peers: str) -> tuple[Pair, ...]:
    """Ours beside each peer in turn."""
    return tuple(Pair(ours, peer) for peer in peers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One question to the contenders.

    `task` is theirs, by its name in `peers/`; or `command` is what is run instead, in our environment. `rounds` is how often each
    takes a turn, `repeats` how often the work is timed within a turn after `warm` times that don't count. `minutes` is about how long
    it takes on two idle cores, the peers' environments and files being there; `limit` is the seconds after which a turn is ended.
    """

    name: str
    title: str
    task: str = ""
    command: tuple[str, ...] = ()
    pairs: tuple[Pair, ...]
    size: int = 512
    warm: int = 1
    repeats: int = 2
    rounds: int = 3
    steps: int = 1
    requests: int = 1
    model: Literal["sd15", "bundled"] = "sd15"
    minutes: float = 1
    limit: float = 1800

    @property
    def reads(self) -> bool:
        """Whether it opens the large checkpoint."""
        return self.model == "sd15" and (self.task in OPENING or "{file}" in self.command)

    @property
    def contenders(self) -> list[str]:
        """Everyone in it, ours first."""
        everyone = [one.ours for one in self.pairs] + [one.peer for one in self.pairs if one.peer is not None]
        return list(dict.fromkeys(everyone))


STEP = (
    *against("sfumato", "diffusers", "diffusers-compiled", "openvino", "sdcpp"),
    Pair("sfumato-int8", "openvino-int8"),
)
GENERATE = (
    "-m",
    "sfumato",
    "generate",
    "--model",
    "{file}",
    "--device",
    "cpu",
    "--size",
    "512x512",
    "--steps",
    "1",
    "--seed",
    "0",
    "--out",
    "{out}",
)
BUDGETS = {"2gb": "2GB", "1gb": "1GB", "smallest": "600MB"}
"""What `--memory` is asked for, by the names of the measures."""
TOGETHER = (1, 2, 4, 8, 16)

MEASURES: tuple[Measure, ...] = (
    Measure(
        name="ceilings", title="What the machine can do", task="ceilings", pairs=(Pair("ceilings"),), repeats=5, minutes=2
    ),
    Measure(
        name="work", title="GFLOP that a step, a decoding and an encoding take", task="work", pairs=(Pair("work"),),
        rounds=1, minutes=0.2,
    ),
    Measure(
        name="import", title="Import of the pipeline", task="import", pairs=against("sfumato", "torch", "diffusers"),
        rounds=7, minutes=2,
    ),
    Measure(
        name="help", title="`sfumato --help`", command=("-m", "sfumato", "--help"), pairs=(Pair("sfumato"),), rounds=9,
        minutes=0.1,
    ),
    Measure(
        name="text", title="Text encoder, a prompt and an empty one", task="encode", repeats=10, minutes=4,
        pairs=against("sfumato", "diffusers", "openvino"),
    ),
    Measure(name="unet-256", title="CFG step, 256²", task="step", size=256, repeats=4, pairs=STEP, minutes=25),
    Measure(name="unet-512", title="CFG step, 512²", task="step", size=512, repeats=2, pairs=STEP, minutes=55),
    Measure(
        name="vae-512", title="VAE decode, 512²", task="decode", repeats=2, pairs=against("sfumato", "diffusers", "openvino"),
        minutes=18,
    ),
    Measure(
        name="load", title="Process start to ready, from the 2.1 GB file", task="load", rounds=5,
        pairs=against("sfumato", "diffusers", "sdcpp"), minutes=5,
    ),
    Measure(
        name="first-image", title="Process start to first picture, bundled model, 20 steps", task="picture",
        model="bundled", size=256, steps=20, pairs=against("sfumato", "diffusers"), rounds=5, minutes=1.5,
    ),
    Measure(
        name="picture-512", title="Process start to a picture of 512² in one step", task="picture",
        pairs=against("sfumato", "diffusers"), minutes=6,
    ),
    *(
        Measure(
            name=f"memory-{name}", title=f"A picture of 512² in one step with `--memory {budget}`", rounds=1, minutes=2,
            command=(*GENERATE, "--memory", budget, "--", "a red apple"), pairs=(Pair("sfumato"),),
        )
        for name, budget in BUDGETS.items()
    ),
    *(
        Measure(
            name=f"requests-{count}", title=f"{count} requests in flight, 128²", task="requests", size=128,
            requests=count, repeats=3, rounds=1, pairs=(Pair("sfumato"),), minutes=round(0.3 + 0.3 * count, 1),
        )
        for count in TOGETHER
    ),
)  # fmt: skip


def quick(measure: Measure) -> Measure:
    """The same on pictures of a quarter of the size, once: whether everything works, not how fast."""
    smaller = measure.size // 4 if measure.size > 64 else measure.size
    command = tuple("128x128" if word == "512x512" else word for word in measure.command)
    return replace(measure, size=smaller, command=command, rounds=1, repeats=1, minutes=measure.minutes / 8)


def chosen(names: Sequence[str], measures: Sequence[Measure] = MEASURES) -> list[Measure]:
    """The measures of those names, or of those that begin so ("unet" is both sizes); all where there are no names.

    Raises ValueError for a name that fits none.
    """
    for name in names:
        if not any(one.name == name or one.name.startswith(f"{name}-") for one in measures):
            raise ValueError(f"there is no measure {name!r}; there are {', '.join(one.name for one in measures)}")
    return [
        one
        for one in measures
        if not names or any(one.name == name or one.name.startswith(f"{name}-") for name in names)
    ]
