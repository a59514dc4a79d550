"""The pipeline's switches for memory and speed: honoured, or answered with a plain reason."""

import logging
from typing import TYPE_CHECKING, Any, Self

import torch

from sfumato.errors import OptionError

if TYPE_CHECKING:
    from sfumato.models.unet import UNet
    from sfumato.models.vae import AutoencoderKL

logger = logging.getLogger("sfumato")


class Switches:
    """`enable_…` and `disable_…` as people know them from diffusers. Mixed into the pipeline, which owns the parts."""

    unet: "UNet"
    vae: "AutoencoderKL"
    _tiled: bool | None = None
    """Whether to decode in tiles, for this pipeline alone; None: as the VAE is switched."""

    def to(self, *where: Any, **named: Any) -> Self:
        """Move to a device, a dtype or both."""
        raise NotImplementedError

    def enable_attention_slicing(self, slice_size: str | int | None = "auto") -> None:
        """Compute attention a few heads at a time: less memory, a little slower.

        `"auto"` halves the peak, `"max"` takes one head at a time, a number that many heads.
        """
        if slice_size == "auto":
            size = max(1, max(self.unet.config.heads) // 2)
        elif slice_size == "max":
            size = 1
        elif slice_size is None:
            self.unet.set_attention_slicing(None)
            return
        elif isinstance(slice_size, int) and not isinstance(slice_size, bool) and slice_size > 0:
            size = slice_size
        else:
            raise OptionError(f'slice_size must be "auto", "max" or a positive number of heads, not {slice_size!r}')
        self.unet.set_attention_slicing(size)

    def disable_attention_slicing(self) -> None:
        """Compute attention over all heads at once."""
        self.unet.set_attention_slicing(None)

    def enable_vae_tiling(self) -> None:
        """Decode and encode pictures larger than those of training in tiles: the same pictures, in a fraction of the memory."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Decode and encode pictures whole."""
        self.vae.disable_tiling()

    def enable_vae_slicing(self) -> None:
        """Nothing to switch: pictures are always decoded one at a time."""
        logger.info("VAE slicing is always on: pictures are decoded one at a time")

    def disable_vae_slicing(self) -> None:
        """Has no effect, and says so: decoding one picture at a time is what makes it independent of the others."""
        logger.warning("VAE slicing stays on: a picture must not depend on what is decoded beside it")

    def enable_xformers_memory_efficient_attention(self, attention_op: object = None) -> None:
        """Nothing to switch: PyTorch's own memory-efficient attention is always used."""
        logger.info("xformers is not needed: PyTorch's memory-efficient attention is always used")

    def disable_xformers_memory_efficient_attention(self) -> None:
        """Nothing to switch: xformers is never used."""

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: str | torch.device | None = None) -> None:
        """Not offered yet, and says so: the whole pipeline moves to the accelerator, if there is one, and stays there."""
        if device is None and torch.backends.mps.is_available():
            device = "mps"
        elif device is None and torch.cuda.is_available():
            device = "cuda"
        if device is None or torch.device(device).type == "cpu":
            logger.warning("there is no accelerator to offload from: the pipeline stays on the CPU")
            return
        device = f"cuda:{gpu_id}" if gpu_id is not None else device
        self.to(device)
        logger.warning(
            "offloading is not available yet: the whole pipeline is now on %s and stays there; "
            "enable_attention_slicing() and enable_vae_tiling() lower the memory it needs",
            device,
        )

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: str | torch.device | None = None
    ) -> None:
        """Not offered yet, and says so; see `enable_model_cpu_offload`."""
        self.enable_model_cpu_offload(gpu_id, device)

    def maybe_free_model_hooks(self) -> None:
        """Nothing to free: no part of the pipeline is hooked."""

    def remove_all_hooks(self) -> None:
        """Nothing to remove: no part of the pipeline is hooked."""

    def reset_device_map(self) -> None:
        """Nothing to reset: a pipeline is on one device."""

    def fuse_qkv_projections(self, unet: bool = True, vae: bool = True) -> None:
        """Nothing to switch: it would only be a matter of speed."""
        logger.info("projections are left as they are: fusing them would not change the picture")
