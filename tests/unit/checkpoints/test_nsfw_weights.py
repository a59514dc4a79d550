from pathlib import Path

import pytest
import torch

from sfumato.checkpoints.nsfw_weights import FILE, folded, open_nsfw_classifier, read
from sfumato.errors import CorruptFileError, MissingFileError


def test_every_tensor_of_the_file_has_its_place() -> None:
    network = open_nsfw_classifier()
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == 2_568_293
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    assert not any(tensor.requires_grad or tensor.is_meta for tensor in network.parameters())


def test_the_file_is_small_and_holds_only_bytes_and_their_ranges() -> None:
    assert FILE.stat().st_size < 3_000_000
    assert len(read(FILE)) == 266


def test_a_damaged_or_missing_file_is_said(tmp_path: Path) -> None:
    damaged = bytearray(FILE.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(CorruptFileError, match="not as it came with the package; install Sfumato again"):
        open_nsfw_classifier(tmp_path / "damaged")
    with pytest.raises(MissingFileError, match="comes with the package"):
        open_nsfw_classifier(tmp_path / "nowhere")


@pytest.mark.parametrize("kernel", ["some/kernel", "some/depthwise_kernel"])
def test_a_folded_convolution_is_the_convolution_and_its_norm(kernel: str) -> None:
    torch.manual_seed(0)
    deep = kernel.endswith("depthwise_kernel")
    convolution = torch.nn.Conv2d(4, 4, 3, groups=4 if deep else 1, bias=False).double()
    norm = torch.nn.BatchNorm2d(4, eps=1e-3).double().eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(tensor)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    weight = convolution.weight.detach()
    published = {
        kernel: weight.permute(2, 3, 0, 1) if deep else weight.permute(2, 3, 1, 0),
        "norm/gamma": norm.weight.detach(),
        "norm/beta": norm.bias.detach(),
        "norm/moving_mean": norm.running_mean,
        "norm/moving_variance": norm.running_var,
    }
    weight, bias = folded(published, kernel, "norm")
    assert not published
    x = torch.randn(1, 4, 5, 5)
    got = torch.nn.functional.conv2d(x, weight, bias, groups=convolution.groups)
    torch.testing.assert_close(got.double(), norm(convolution(x.double())), rtol=1e-5, atol=1e-5)
