"""Adapters: LoRA and its kin, and textual inversion; changes to loaded models, beside their weights or merged into them."""

from sfumato.adapters.adapter import Adapter, Report
from sfumato.adapters.beside import NO_ADAPTERS, ActiveAdapters, Weighted
from sfumato.adapters.merging import Merger
from sfumato.adapters.opening import adapter_of, open_adapter

__all__ = ["NO_ADAPTERS", "ActiveAdapters", "Adapter", "Merger", "Report", "Weighted", "adapter_of", "open_adapter"]
