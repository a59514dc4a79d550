import math

import pytest
import torch

from sfumato.diffusion.guidance import Guidance, combine, compose
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


OTHER = torch.tensor([0.0, 8.0])


def test_parts_pull_from_the_unconditioned_answer_each_by_its_weight():
    guidance = Guidance(scale=4.0, weights=(1.0, -0.5))
    assert guidance.rows() == ("uncond", "cond", "cond 2")
    rows = {"uncond": UNCOND, "cond": COND, "cond 2": OTHER}
    assert guidance.answer(rows).tolist() == [1 + 4 * 1 - 2 * -1, 2 + 4 * -2 - 2 * 6]


def test_one_part_of_weight_1_is_the_prompt_itself_bit_for_bit():
    torch.manual_seed(0)
    uncond, cond = torch.randn(2, 1000)
    assert torch.equal(compose(uncond, [cond], [1.0], 7.3), combine(uncond, cond, 7.3))
    torch.testing.assert_close(compose(uncond, [cond, cond], [0.25, 0.75], 7.3), combine(uncond, cond, 7.3))


def test_parts_whose_weights_add_up_to_1_need_no_unconditioned_answer_at_1():
    guidance = Guidance(scale=1.0, weights=(0.25, 0.75))
    assert guidance.rows() == ("cond", "cond 2")
    rows = {"cond": COND, "cond 2": OTHER}
    assert guidance.answer(rows).tolist() == [0.5, 6.0]
    torch.testing.assert_close(guidance.answer(rows), compose(UNCOND, [COND, OTHER], [0.25, 0.75], 1.0))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_other_parts_need_it_at_1_too(scale):
    guidance = Guidance(scale=scale, weights=(1.0, 1.0))
    assert guidance.rows() == ("uncond", "cond", "cond 2")
    rows = {"uncond": UNCOND, "cond": COND, "cond 2": OTHER}
    assert guidance.answer(rows).tolist() == [1 + 1 - 1, 2 - 2 + 6]
