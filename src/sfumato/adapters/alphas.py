"""By what a change of low rank is multiplied: alpha over its rank, and where the alpha is said."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from sfumato.adapters.parts import Scaling
from sfumato.checkpoints.options import read_json
from sfumato.errors import AdapterError

CONFIG = "adapter_config.json"
DIFFUSERS_METADATA = "lora_adapter_metadata"
MOST, MOST_PATTERNS = 1_000_000, 10_000
"""The largest rank or alpha, and the most layers that a pattern names: each is looked for in each layer's name."""


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What peft's config says that no tensor does; patterns name layers by the end of their names.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.1 (alpha over rank); Kalajdzievski 2023, arXiv:2312.03732 (its root: rsLoRA).
    """

    rank: int | None = None
    alpha: float | None = None
    ranks: Mapping[str, float] = field(default_factory=dict[str, float])
    alphas: Mapping[str, float] = field(default_factory=dict[str, float])
    of_root: bool = False
    on_input: tuple[str, ...] = ()
    """Layers whose inputs, not outputs, (IA)³ scales."""

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> "PeftConfig":
        """From the values of an `adapter_config.json`. Raises AdapterError for values of the wrong type, or what is not implemented."""

        def number(name: str, least: float = -MOST) -> float | None:
            value = values.get(name)
            if value is not None and not is_number(value, least):
                raise AdapterError(
                    f"{where}: {name} is {repr(value)[:80]}; expected a number from {least:,} to {MOST:,}"
                )
            return value

        def pattern(name: str, least: float = -MOST) -> dict[str, float]:
            table: object = values.get(name) or {}
            numbers = cast("dict[str, float]", table) if isinstance(table, dict) else None
            if (
                numbers is None
                or len(numbers) > MOST_PATTERNS
                or not all(is_number(v, least) for v in numbers.values())
            ):
                raise AdapterError(
                    f"{where}: {name} is no table of at most {MOST_PATTERNS:,} layers and numbers from {least:,} to {MOST:,}"
                )
            return {key.removeprefix("^").split(".lora_")[0]: value for key, value in numbers.items()}

        if values.get("fan_in_fan_out"):
            raise AdapterError(f"{where}: fan_in_fan_out is for layers that Stable Diffusion does not have")
        rank = number("r", least=1)
        feedforward = values.get("feedforward_modules") or ()
        alpha = number("lora_alpha")
        return cls(
            rank=None if rank is None else int(rank),
            alpha=number("alpha") if alpha is None else alpha,
            ranks=pattern("rank_pattern", least=1),
            alphas=pattern("alpha_pattern"),
            of_root=bool(values.get("use_rslora")),
            on_input=tuple(map(str, [feedforward] if isinstance(feedforward, str) else feedforward)),
        )

    def scale(self, layer: str, rank: int | None) -> float:
        """By what the change of a layer is multiplied."""
        rank = rank or int(found(self.ranks, layer) or self.rank or 1)
        alpha = found(self.alphas, layer) or self.alpha
        return 1.0 if alpha is None else alpha / (math.sqrt(rank) if self.of_root else rank)

    def scales_input(self, layer: str) -> bool:
        """Whether (IA)³ scales the inputs of a layer."""
        return any(ends(layer, name) for name in self.on_input)


def is_number(value: object, least: float) -> bool:
    """Whether a value of a config is a number that can be one of these; NaN is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= MOST


def found(pattern: Mapping[str, float], layer: str) -> float | None:
    """What a table says of the layer."""
    return next((value for name, value in pattern.items() if ends(layer, name)), None)


def ends(layer: str, name: str) -> bool:
    """Whether a layer has the name, or one that ends in it."""
    return layer == name or layer.endswith(f".{name}")


def config_beside(path: Path) -> PeftConfig | None:
    """The config that peft writes beside a file; None where there is none. Raises AdapterError or CorruptFileError for a damaged one."""
    file = path.with_name(CONFIG)
    return PeftConfig.read(read_json(file), str(file)) if file.is_file() else None


def configs_within(metadata: Mapping[str, str], where: str) -> dict[str, PeftConfig]:
    """The configs that diffusers writes into a file's metadata, by network. Raises AdapterError for damaged ones."""
    text = metadata.get(DIFFUSERS_METADATA)
    if text is None:
        return {}
    try:
        values: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where}: its {DIFFUSERS_METADATA} is not JSON ({error}); the file is damaged") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{where}: its {DIFFUSERS_METADATA} is no JSON object; the file is damaged")
    tables: dict[str, dict[str, Any]] = {}
    for name, value in cast("dict[str, Any]", values).items():
        network, _, option = name.partition(".")
        tables.setdefault(network, {})[option] = value
    return {network: PeftConfig.read(table, where) for network, table in tables.items()}


def scaling_of(alpha: Tensor | None, config: PeftConfig | None, layer: str, where: str) -> Scaling:
    """How a layer's change is multiplied: by its own alpha over its rank, else as the config says, else by one.

    A change without a rank of its own is multiplied by one, whatever its alpha: LyCORIS writes an alpha there and does not use it.
    Raises AdapterError for an alpha that is no number.
    """
    if alpha is None:
        return (lambda rank: config.scale(layer, rank)) if config is not None else lambda _: 1.0
    value = float(alpha.item()) if alpha.numel() == 1 and not alpha.is_complex() else math.nan
    if not math.isfinite(value):
        raise AdapterError(
            f"{where}: alpha is {alpha.flatten().tolist()[:4]}; expected one number; the file is damaged"
        )
    # An alpha of zero stands for the rank: it is how kohya's scripts are told "do not scale".
    return lambda rank: 1.0 if rank is None or value == 0 else value / rank
