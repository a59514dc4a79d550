"""k-diffusion's sampling module, and its schedules of discrete models, by themselves: its package imports much that samplers don't use, and that would bring another torch.

`sampling` and `external` are those modules, unchanged. Skips the tests that import it where k-diffusion is not installed (`make test` installs it).
"""

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest
from torch import Tensor

pytest.importorskip("torchsde")


def _load() -> ModuleType:
    found = importlib.util.find_spec("k_diffusion")
    if found is None or not found.submodule_search_locations:
        pytest.skip("k-diffusion is not installed: pip install --no-deps k-diffusion", allow_module_level=True)
    package, utils, odeint = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils"), ModuleType("torchdiffeq")
    package.__path__ = list(found.submodule_search_locations)
    utils.append_dims = append_dims
    package.utils = utils
    odeint.odeint = None  # only for likelihoods
    sys.modules.update({"k_diffusion": package, "k_diffusion.utils": utils})
    sys.modules.setdefault("torchdiffeq", odeint)
    return importlib.import_module("k_diffusion.sampling")


def append_dims(x: Tensor, dims: int) -> Tensor:
    """x with dimensions of size 1 at its end, so that it has `dims`."""
    return x.reshape(*x.shape, *(1,) * (dims - x.ndim))


sampling = _load()
external = importlib.import_module("k_diffusion.external")
