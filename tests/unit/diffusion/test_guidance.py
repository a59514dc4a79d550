import math

import pytest
import torch

from sfumato.diffusion.guidance import Guidance, combine
from sfumato.errors import OptionError

UNCOND, COND = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])


def test_guidance_goes_past_the_conditioned_answer():
    assert combine(UNCOND, COND, 7.5).tolist() == [8.5, -13.0]
    assert Guidance().rows() == ("uncond", "cond")
    assert torch.equal(Guidance(scale=7.5).answer({"uncond": UNCOND, "cond": COND}), combine(UNCOND, COND, 7.5))


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_at_1_and_below_there_is_none_and_half_the_rows(scale):
    assert Guidance(scale=scale).rows() == ("cond",)
    assert Guidance(scale=scale).answer({"cond": COND}) is COND


def test_a_scale_of_1_equals_no_guidance():
    torch.testing.assert_close(combine(UNCOND, COND, 1.0), COND)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -1.0])
def test_a_scale_that_is_none_is_an_error(scale):
    with pytest.raises(OptionError, match="guidance_scale"):
        Guidance(scale=scale)
