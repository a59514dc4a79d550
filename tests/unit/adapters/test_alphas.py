import pytest
import torch

from sfumato.adapters.alphas import scaling_of
from sfumato.errors import AdapterError


@pytest.mark.parametrize("alpha", [torch.tensor(1 + 0j), torch.tensor([1.0, 2.0]), torch.tensor(float("nan"))])
def test_an_alpha_that_is_no_number_is_named(alpha):
    with pytest.raises(AdapterError, match="alpha is"):
        scaling_of(alpha, None, "conv_in", "a.safetensors")
