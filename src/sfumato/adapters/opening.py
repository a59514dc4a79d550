"""From a file to an adapter: every key is put to use, or named."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.adapters.adapter import IN_MEMORY, Adapter, Report
from sfumato.adapters.algorithms import Change
from sfumato.adapters.alphas import PeftConfig, config_beside, configs_within, scaling_of
from sfumato.adapters.family import foreign, mismatch
from sfumato.adapters.layouts import layer_of, unwrapped
from sfumato.adapters.parts import change_of
from sfumato.adapters.sorting import Sorted, sort_keys
from sfumato.checkpoints import WeightFiles
from sfumato.checkpoints.folder import changed
from sfumato.checkpoints.keys import few
from sfumato.checkpoints.tensor_file import open_tensors, reading
from sfumato.errors import AdapterError, MissingFileError

NEEDS_RANK = ("lora_up", "hada_w1_a", "lokr_w1_a", "lokr_w2_a")


def open_adapter(path: Path, networks: Mapping[str, nn.Module], name: str | None = None) -> Adapter:
    """Open an adapter for a model's networks, its tensors mapped from the file, under the file's name unless given another.

    Raises MissingFileError, CorruptFileError, or AdapterError for one that is damaged, for another family, of an algorithm that Sfumato
    does not know, or that changes nothing of this model.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}; expected a LoRA, such as a .safetensors")
    files = WeightFiles(path.parent, ((path, changed(path)),))
    with open_tensors(path) as file, reading(path):
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (an open file is no dict)
        metadata = file.metadata()
    configs = configs_within(metadata, str(path))
    # Beside a file of another dialect, a config would be another adapter's.
    beside = config_beside(path) if any("base_model.model." in key for key in tensors) else None
    return adapter_of(tensors, networks, name or path.stem, path.name, files=files, configs=configs, beside=beside)


def adapter_of(
    tensors: Mapping[str, Tensor],
    networks: Mapping[str, nn.Module],
    name: str,
    file: str = IN_MEMORY,
    *,
    files: WeightFiles | None = None,
    configs: Mapping[str, PeftConfig] | None = None,
    beside: PeftConfig | None = None,
) -> Adapter:
    """The adapter that these tensors make, as `open_adapter`. `configs` are the networks', `beside` is of any."""
    networks = {part: unwrapped(network) for part, network in networks.items()}
    sorting = sort_keys(file, tensors, networks)
    no_alpha = 0
    changes: dict[str, dict[str, Change]] = {}
    misfits: list[str] = []
    for place, group in sorting.groups.items():
        layer = layer_of(networks[place.network], place.layer)
        parts = group.parts
        if layer is None or (parts.keys() == {"alpha"}):
            sorting.unmatched += group.keys
            continue
        where = f"{file}: {group.name}"
        config = (configs or {}).get(place.network, beside)
        if config is not None and config.scales_input(group.name) and "ia3_l" in parts:
            parts = parts | {"feedforward": torch.ones(1)}
        change = change_of(
            where, parts, tuple(layer.weight.shape), scaling_of(parts.get("alpha"), config, group.name, where)
        )
        if change.fits(layer.weight.shape):
            changes.setdefault(place.network, {})[place.layer] = change
            no_alpha += "alpha" not in parts and config is None and any(part in parts for part in NEEDS_RANK)
        else:
            misfits.append(f"{group.name} is for {list(change.shape)}, this model has {list(layer.weight.shape)}")
    check(file, changes, misfits, sorting, networks)
    used = [change for layers in changes.values() for change in layers.values()]
    report = Report(
        matched={network: len(layers) for network, layers in changes.items()},
        algorithms=Counter(change.algorithm for change in used),
        dialects=tuple(sorting.dialects),
        unmatched=tuple(sorting.unmatched),
        misfits=tuple(misfits),
        # Only kohya's files say alpha layer by layer; elsewhere its absence is the rule and means the same.
        no_alpha=no_alpha if "kohya" in sorting.dialects else 0,
        doubled=tuple(sorting.doubled),
    )
    return Adapter(name=name, file=file, changes=changes, report=report, files=files)


def check(
    file: str,
    changes: Mapping[str, Mapping[str, Change]],
    misfits: list[str],
    sorting: Sorted,
    networks: Mapping[str, nn.Module],
) -> None:
    """Raise AdapterError for an adapter of another family, and for one that fits nothing, or less than it doesn't fit."""
    fitting = sum(map(len, changes.values()))
    if (why := mismatch(sorting.by_name, networks)) is not None:
        raise AdapterError(f"{file} does not fit this model: {why}; use it with a model of its own family")
    if fitting > len(misfits):
        return
    if misfits:
        raise AdapterError(
            f"{file} does not fit this model: {len(misfits)} of its {fitting + len(misfits)} layers are of another shape "
            f"({few(misfits, 1)}); use it with the model it was trained on"
        )
    kind = foreign(sorting.by_name)
    why = f"it looks like one for {kind}" if kind else "it is no LoRA that Sfumato knows"
    if not sorting.by_name:
        why = "its keys are not an adapter's; whole models are opened with from_pretrained or --model"
    keys = few(sorting.unmatched)
    raise AdapterError(f"{file} matches nothing of this model: {why} (keys such as {keys or 'none at all'})")
