import pytest
import torch

from sfumato.errors import OptionError, SizeError
from sfumato.models import (
    CLIPTextConfig,
    CLIPTextEncoder,
    CLIPVisionConfig,
    CLIPVisionEncoder,
    SafetyChecker,
    SafetyCheckerConfig,
)

TEXT = CLIPTextConfig(vocab_size=50, width=16, layers=3, heads=2, max_length=12, mlp_width=32, eos_token_id=49)
VISION = CLIPVisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2, mlp_width=32)


@pytest.fixture(scope="module")
def encoder() -> CLIPTextEncoder:
    torch.manual_seed(0)
    return CLIPTextEncoder(TEXT).eval().requires_grad_(False)


def test_a_token_sees_itself_and_those_before_it(encoder: CLIPTextEncoder) -> None:
    tokens = torch.arange(10)[None]
    changed = tokens.clone()
    changed[0, 6] = 40
    before, after = encoder(tokens).hidden[0], encoder(changed).hidden[0]
    torch.testing.assert_close(before[:6], after[:6])
    assert (before[6:] - after[6:]).abs().amax(dim=1).min() > 1e-4


def test_pooled_is_the_hidden_vector_of_the_first_end_token(encoder: CLIPTextEncoder) -> None:
    tokens = torch.tensor([[1, 2, 49, 49, 49], [3, 4, 5, 6, 49]])
    encoded = encoder(tokens)
    torch.testing.assert_close(encoded.pooled, torch.stack([encoded.hidden[0, 2], encoded.hidden[1, 4]]))
    torch.testing.assert_close(encoder(tokens, clip_skip=2).pooled, encoded.pooled)


def test_new_embeddings_start_small() -> None:
    encoder = CLIPTextEncoder(CLIPTextConfig(width=64, layers=1, heads=2, mlp_width=64))
    assert 0.015 < encoder.token_embedding.weight.std() < 0.025


@pytest.mark.parametrize("clip_skip", [-1, 4])
def test_more_layers_than_there_are_can_not_be_skipped(encoder: CLIPTextEncoder, clip_skip: int) -> None:
    with pytest.raises(OptionError, match="give 0 to 3"):
        encoder(torch.zeros(1, 4, dtype=torch.long), clip_skip)


def test_too_many_tokens(encoder: CLIPTextEncoder) -> None:
    with pytest.raises(OptionError, match="13 tokens given; this text encoder reads at most 12"):
        encoder(torch.zeros(1, 13, dtype=torch.long))


def test_pictures_of_another_size() -> None:
    with pytest.raises(SizeError, match="20 × 16 pixels; this image encoder reads 16 × 16"):
        CLIPVisionEncoder(VISION)(torch.zeros(1, 3, 16, 20))


def test_a_special_concept_makes_the_checker_stricter() -> None:
    torch.manual_seed(0)
    checker = SafetyChecker(SafetyCheckerConfig(vision=VISION, projection_dim=8, concepts=1, special_concepts=1))
    pixels = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        seen = checker.projection(checker.vision(pixels))
        checker.concepts.copy_(seen)
        checker.special_concepts.copy_(seen)
        checker.thresholds.fill_(1.005)  # just out of reach, and within it if judged more strictly
        assert not checker(pixels).flagged
        checker.special_thresholds.fill_(0.9)
        verdict = checker(pixels)
    assert verdict.flagged
    torch.testing.assert_close(verdict.special_scores, torch.tensor([[0.1]]))
    torch.testing.assert_close(verdict.concept_scores, torch.tensor([[0.005]]))
