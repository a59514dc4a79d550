"""One image being made: its sampler, its conditioning, and where it stands."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from sfumato.adapters import NO_ADAPTERS, ActiveAdapters
from sfumato.diffusion.conversation import Query, Sampling, Step
from sfumato.diffusion.guidance import Guidance, Row, conditioned_as
from sfumato.diffusion.prediction import Answer
from sfumato.engine.fast import NOTHING_SPARED, FastOptions, Remembered
from sfumato.models.convolution import NOWHERE, Axes
from sfumato.models.freeu import FreeU
from sfumato.models.unet import KeysValues, Told, UNet

if TYPE_CHECKING:
    from sfumato.engine.windows import Windows

StepRule: TypeAlias = Callable[[Step, bool], Tensor]
"""What x becomes at the end of a step, and whether it is the last: an inpainting mask is one."""


class Conditioning:
    """A text context with its cross-attention keys and values, which are computed once and serve every step.

    `context` is `tokens dim`; `told` is what some networks are told beside it, in one row. Images that share a context (a negative
    prompt, say) share the object, and the work.
    """

    def __init__(self, context: Tensor, told: Told | None = None) -> None:
        self.context = context
        self.told = told
        self._keys_values: dict[ActiveAdapters, KeysValues] = {}

    def keys_values(self, unet: UNet, adapters: ActiveAdapters = NO_ADAPTERS) -> KeysValues:
        """Keys and values of every cross-attention of `unet`, one row, computed at the first call with these adapters."""
        if adapters not in self._keys_values:
            with adapters.beside("unet", unet):
                context = self.context[None].to(unet.device, unet.dtype)
                told = None if self.told is None else self.told.to(unet.device)
                self._keys_values[adapters] = unet.keys_values(context, told)
        return self._keys_values[adapters]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job:
    """What the engine has to know to make one image.

    `sampling` is a sampler's generator, not yet started, and `steps` how many it will take, None where it finds out on the way;
    `conditionings` holds one entry for each row that `guidance` asks for, but for those that hear what another hears (`conditioned_as`);
    `timestep` turns a sigma into the network's training index, or whatever else it is told of it; `prediction` is what it answers; `adapters`
    run beside the network. `changes` says which rows have other conditionings, and after how many finished steps; those are of equal lengths.
    `beside` are further channels of each row's input,
    `c h w`, for networks that read more than x: a mask, another picture; rows that have none of their own read those of "cond".
    `freeu` weighs what the network reads on its way up. `at_step` answers every step of the sampler before anybody hears of it. Through
    `windows`, the network sees one part of x at a time; along the axes of `wraps`, what it sees has no edge. `fast` says what may be spared.
    """

    sampling: Sampling
    steps: int | None
    conditionings: Mapping[str, Conditioning]
    changes: Mapping[int, Mapping[str, Conditioning]] = field(default_factory=dict[int, Mapping[str, Conditioning]])
    guidance: Guidance
    timestep: Callable[[float], float]
    prediction: Answer
    adapters: ActiveAdapters = NO_ADAPTERS
    beside: Mapping[str, Tensor] | None = None
    freeu: FreeU | None = None
    at_step: StepRule | None = None
    windows: "Windows | None" = None
    wraps: Axes = NOWHERE
    fast: FastOptions = NOTHING_SPARED

    def __post_init__(self) -> None:
        missing = [row for row in self.guidance.rows() if conditioned_as(row) not in self.conditionings]
        assert not missing, f"guidance needs conditioning for {missing}"
        every = [self.conditionings, *self.changes.values()]
        lengths = {each.context.shape for rows in every for each in rows.values()}
        assert not self.changes or len(lengths) == 1, f"contexts of several lengths: {lengths}"
        remembers = self.fast.caches or self.fast.adaptive is not None
        assert not (remembers and self.windows), "what a run remembers is of one window"


class Run:
    """A job under way. Holds what its sampler asked or offered last; the engine answers and resumes it."""

    def __init__(self, ticket: int, job: Job) -> None:
        self.ticket = ticket
        self.job = job
        self.step = 0
        self.pending: Query | Step | None = None
        self.result: Tensor | None = None
        self.widened: tuple[str, ...] = ()
        """Parts of the network that overflowed in half precision, and are computed in float32 since."""
        self.notes: list[str] = []
        self.remembered = Remembered(job.fast)
        self._conditionings = dict(job.conditionings)
        self._keys_values: dict[tuple[Row, ...], KeysValues] = {}

    @property
    def query(self) -> Query:
        """The question its sampler waits on."""
        assert isinstance(self.pending, Query)
        return self.pending

    @property
    def guidance(self) -> Guidance:
        """The guidance of that question, which depends on how noisy x is by now."""
        if self.remembered.ended:
            return self.job.guidance.ended()
        return self.job.guidance.at(self.query.sigma, self.job.timestep(self.query.sigma))

    @property
    def alike(self) -> Hashable:
        """What runs must have in common to be evaluated in one batch."""
        lengths = frozenset(conditioning.context.shape for conditioning in self.job.conditionings.values())
        perturbation = self.job.guidance.perturbation
        layers = None if perturbation is None else perturbation.layers
        job = self.job
        spared = self.remembered.alike(self.guidance.rows())
        changes = job.adapters, job.freeu, layers, job.windows, job.wraps, self.widened, spared
        return self.query.x.shape, lengths, *changes

    @property
    def place(self) -> str:
        """The step it is at, in words."""
        return f"{self.step + 1}" if self.job.steps is None else f"{self.step + 1} of {self.job.steps}"

    def start(self) -> None:
        """Run the sampler up to its first question."""
        self._take(lambda: next(self.job.sampling))

    def answer(self, value: Tensor) -> None:
        """Send the sampler what it waits for: denoised latents for a Query, an x for a Step."""
        if isinstance(self.pending, Query):
            self.remembered.went_on()
        self._take(lambda: self.job.sampling.send(value))

    def _take(self, advance: Callable[[], Query | Step]) -> None:
        try:
            self.pending = advance()
        except StopIteration as stop:
            self.pending, self.result = None, stop.value
        if isinstance(self.pending, Step):
            self.step += 1
            if changed := self.job.changes.get(self.step):
                self._conditionings |= changed
                self._keys_values = {}
                self.remembered.forget()
            if self.job.at_step is not None:
                # Where the sampler finds out on the way how many steps it takes, its last is the one that leaves no noise.
                is_last = self.pending.sigma == 0 if self.job.steps is None else self.step == self.job.steps
                self.pending = replace(self.pending, x=self.job.at_step(self.pending, is_last))

    def close(self) -> None:
        """End the sampler where it stands."""
        self.job.sampling.close()
        self.pending = None

    def keys_values(self, unet: UNet, rows: tuple[Row, ...]) -> KeysValues:
        """Keys and values of rows that guidance asks for, joined once until one of them changes."""
        if rows not in self._keys_values:
            conditionings = [self._conditionings[conditioned_as(row)] for row in rows]
            parts = [conditioning.keys_values(unet, self.job.adapters) for conditioning in conditionings]
            self._keys_values[rows] = KeysValues.concat(parts)
        return self._keys_values[rows]
