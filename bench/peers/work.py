"""How many operations the work has, counted on networks without numbers: GFLOP of convolutions, linear layers and attention."""

from collections.abc import Callable
from typing import Any

from bench.worker import Figures, Setting, serve

SIZES = (256, 512)
KINDS = {"convolution": "convolution", "mm": "linear", "addmm": "linear", "bmm": "attention", "baddbmm": "attention"}
"""What the operators of PyTorch are here: all batched products are those of attention."""


def work(_: Setting) -> Figures:
    """GFLOP by network, size and kind: of a step with guidance (two rows), a decoding, and an encoding of two prompts.

    Keys and values of the text are not among a step's: they are the same in all of them.
    """
    import torch

    from sfumato.checkpoints.components import TEXT_ENCODER, UNET, VAE
    from sfumato.checkpoints.unfilled import unfilled
    from sfumato.variants import FAMILIES

    family = FAMILIES["sd1"]
    with unfilled():
        unet, vae, text = UNET.build(family.unet), VAE.build(family.vae), TEXT_ENCODER.build(family.text_encoder)
    nowhere = torch.device("meta")
    found: Figures = {}
    with torch.no_grad():
        for size in SIZES:
            side = size // 8
            keys_values = unet.keys_values(torch.empty(2, 77, family.unet.context_dim, device=nowhere))
            x, timestep = torch.empty(2, 4, side, side, device=nowhere), torch.empty(2, device=nowhere)
            latents = x[:1]
            found[f"step {size}"] = counted(lambda x=x, t=timestep, k=keys_values: unet(x, t, k))
            found[f"decode {size}"] = counted(lambda z=latents: vae.decode_whole(z))
        tokens = torch.zeros(2, 77, dtype=torch.int64, device=nowhere)
        found["encode"] = counted(lambda: text(tokens))
    return found


def counted(run: Callable[[], Any]) -> dict[str, float]:
    """GFLOP by kind."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The plain way of attention is made of products, which are counted; the fused ones of a CPU are not.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    kinds = dict.fromkeys(KINDS.values(), 0.0)
    for operator, count in counter.get_flop_counts()["Global"].items():
        kinds[KINDS[str(operator).removeprefix("aten.")]] += count / 1e9
    return {kind: round(count, 1) for kind, count in kinds.items()}


if __name__ == "__main__":
    serve({"work": work})
