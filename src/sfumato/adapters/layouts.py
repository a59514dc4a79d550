"""Which layers of a network adapters can change, and by which names files know them."""

from collections.abc import Mapping

from torch import nn

from sfumato.adapters.algorithms import Change, Layer
from sfumato.adapters.names import Layouts
from sfumato.checkpoints.diffusers_layout import text_keys, unet_keys
from sfumato.checkpoints.keys import KeyMap
from sfumato.checkpoints.latent_upscaler import latent_upscaler_keys
from sfumato.checkpoints.ldm_layout import ldm_unet_keys
from sfumato.errors import AdapterError
from sfumato.models import CLIPTextEncoder, LatentUpscaler, UNet

# Read by its weight and never called, so that nothing can be added to its output.
NOT_CALLED = frozenset({"position_embedding"})


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, of one that torch.compile has wrapped."""
    return getattr(network, "_orig_mod", network)


def layouts_of(networks: Mapping[str, nn.Module]) -> Layouts:
    """The key maps of a pipeline's networks that adapters are made for: U-Net and text encoders; others have none.

    The diffusers layout comes first; the U-Net's layers are also called as the original code calls them, as SDXL's adapters do.
    """
    layouts: dict[str, tuple[KeyMap, ...]] = {}
    for name, network in networks.items():
        match unwrapped(network):
            case UNet() as unet:
                layouts[name] = (unet_keys(unet.config), ldm_unet_keys(unet.config))
            case LatentUpscaler() as upscaler:
                layouts[name] = (latent_upscaler_keys(upscaler.config),)
            case CLIPTextEncoder() as encoder:
                layouts[name] = (text_keys(encoder.config),)
            case _:
                pass
    return layouts


def layer_of(network: nn.Module, name: str) -> Layer | None:
    """The layer of that name; None if there is none, or none that an adapter can change."""
    try:
        layer = network.get_submodule(name)
    except AttributeError:
        return None
    kinds = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)
    return layer if isinstance(layer, kinds) and name not in NOT_CALLED else None


def layer_for(change: Change, network: nn.Module, name: str) -> Layer:
    """The layer that a change was made for. Raises AdapterError if the network, put in later, has none of that name and shape."""
    layer = layer_of(network, name)
    if layer is None or not change.fits(layer.weight.shape):
        raise AdapterError(
            f"an adapter was loaded for another network than this, whose {name} has not its shape; load it again"
        )
    return layer
