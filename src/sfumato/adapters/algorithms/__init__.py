"""How an adapter's numbers make a change of a layer: one file an algorithm, with its paper's equation."""

from sfumato.adapters.algorithms.change import Change, Layer
from sfumato.adapters.algorithms.dora import DoRA
from sfumato.adapters.algorithms.full import Full
from sfumato.adapters.algorithms.ia3 import IA3
from sfumato.adapters.algorithms.loha import LoHa
from sfumato.adapters.algorithms.lokr import LoKr
from sfumato.adapters.algorithms.lora import LoRA

__all__ = ["IA3", "Change", "DoRA", "Full", "Layer", "LoHa", "LoKr", "LoRA"]
