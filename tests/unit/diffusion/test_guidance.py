import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sfumato.diffusion.guidance import Guidance, PictureGuidance, combine, compose, conditioned_as, is_perturbed
from sfumato.diffusion.perturbation import Perturbation
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


# -- rescaling ---------------------------------------------------------------------------------------------------------


def answers(*names: str, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(4, 6, 6, generator=g) for name in names}


def test_rescaling_brings_the_spread_back_to_that_of_the_prompt_alone():
    rows = answers("uncond", "cond")
    guided = Guidance(scale=7.5).answer(rows)
    assert guided.std() > 5 * rows["cond"].std()
    torch.testing.assert_close(Guidance(scale=7.5, rescale=1.0).answer(rows).std(), rows["cond"].std())
    half = Guidance(scale=7.5, rescale=0.5).answer(rows)
    torch.testing.assert_close(half.std(), (guided.std() + rows["cond"].std()) / 2)
    torch.testing.assert_close(half / half.std(), guided / guided.std())


def test_rescaling_by_nothing_and_of_what_is_not_guided_changes_no_bit():
    rows = answers("uncond", "cond")
    assert torch.equal(Guidance(scale=7.5, rescale=0.0).answer(rows), combine(rows["uncond"], rows["cond"], 7.5))
    assert Guidance(scale=1.0, rescale=0.7).answer({"cond": rows["cond"]}) is rows["cond"]


def test_parts_are_rescaled_to_what_they_come_to_together():
    rows = answers("uncond", "cond", "cond 2")
    together = compose(rows["uncond"], [rows["cond"], rows["cond 2"]], (1.0, -0.5), 1.0)
    got = Guidance(scale=6.0, weights=(1.0, -0.5), rescale=1.0).answer(rows)
    torch.testing.assert_close(got.std(), together.std())


# -- the interval ------------------------------------------------------------------------------------------------------


def test_outside_its_interval_only_the_prompt_is_evaluated():
    guidance = Guidance(
        scale=7.5, interval=(0.3, 5.0), rescale=0.7, perturbation=Perturbation(scale=3.0, layers=("a",))
    )
    for sigma in (0.3, 0.1, 5.01, 14.6):
        assert guidance.at(sigma, 500).rows() == ("cond",)
        assert guidance.at(sigma, 500).answer({"cond": COND}) is COND
    for sigma in (0.31, 5.0):
        assert guidance.at(sigma, 500) == guidance
    assert guidance.rows() == ("uncond", "cond", "perturbed")


def test_everywhere_is_no_interval():
    for sigma in (0.0, 1e-9, 14.6, 1e9):
        assert Guidance().at(sigma, 0) == Guidance()


def test_parts_that_need_it_have_the_unconditioned_row_outside_too():
    guidance = Guidance(scale=7.5, interval=(1.0, 2.0), weights=(1.0, 1.0))
    assert guidance.at(3.0, 0).rows() == ("uncond", "cond", "cond 2")
    rows = {"uncond": UNCOND, "cond": COND, "cond 2": OTHER}
    assert torch.equal(guidance.at(3.0, 0).answer(rows), compose(UNCOND, [COND, OTHER], (1.0, 1.0), 1.0))


def test_a_sampler_that_asks_for_the_unconditioned_estimate_is_not_guided_outside_either():
    guidance = Guidance(scale=7.5, unconditioned=True, interval=(1.0, 2.0))
    assert guidance.at(1.5, 0).unconditioned
    assert not guidance.at(3.0, 0).unconditioned
    assert guidance.at(3.0, 0).rows() == ("cond",)


def test_guidance_by_a_picture_keeps_to_the_interval():
    guidance = PictureGuidance(scale=7.5, image_scale=1.5, interval=(1.0, 2.0))
    assert guidance.at(1.5, 0).rows() == ("uncond", "image", "cond")
    assert guidance.at(3.0, 0).rows() == ("cond",)
    rows = answers("uncond", "image", "cond")
    assert guidance.at(3.0, 0).answer({"cond": COND}) is COND
    torch.testing.assert_close(
        PictureGuidance(scale=7.5, rescale=1.0).answer(rows).std(), rows["cond"].std(), rtol=1e-4, atol=1e-5
    )


# -- perturbed attention -----------------------------------------------------------------------------------------------

PERTURBED = torch.tensor([1.0, 1.0])


def test_perturbed_guidance_goes_from_the_perturbed_answer_past_the_conditioned_one():
    guidance = Guidance(scale=1.0, perturbation=Perturbation(scale=3.0, layers=("a",)))
    assert guidance.rows() == ("cond", "perturbed")
    assert guidance.answer({"cond": COND, "perturbed": PERTURBED}).tolist() == [2 + 3 * 1, 0 + 3 * -1]
    both = Guidance(scale=7.5, perturbation=Perturbation(scale=3.0, layers=("a",)))
    rows = {"uncond": UNCOND, "cond": COND, "perturbed": PERTURBED}
    assert both.answer(rows).tolist() == [8.5 + 3, -13 - 3]


def test_each_part_goes_from_its_own_perturbed_answer():
    guidance = Guidance(scale=1.0, weights=(0.25, 0.75), perturbation=Perturbation(scale=2.0, layers=("a",)))
    assert guidance.rows() == ("cond", "cond 2", "perturbed", "perturbed 2")
    assert [conditioned_as(row) for row in guidance.rows()] == ["cond", "cond 2", "cond", "cond 2"]
    assert [is_perturbed(row) for row in guidance.rows()] == [False, False, True, True]
    rows = {"cond": COND, "cond 2": OTHER, "perturbed": PERTURBED, "perturbed 2": PERTURBED}
    plain = Guidance(scale=1.0, weights=(0.25, 0.75)).answer(rows)
    moved = 2 * (0.25 * (COND - PERTURBED) + 0.75 * (OTHER - PERTURBED))
    torch.testing.assert_close(guidance.answer(rows), plain + moved)


def test_the_adaptive_scale_is_gone_at_late_timesteps_and_with_it_the_row():
    guidance = Guidance(scale=7.5, perturbation=Perturbation(scale=3.0, adaptive=0.01, layers=("a",)))
    assert guidance.at(14.6, 999).perturbation == Perturbation(scale=3.0 - 0.01, adaptive=0.01, layers=("a",))
    assert guidance.at(2.0, 700).rows() == ("uncond", "cond")
    assert guidance.at(1.0, 0).rows() == ("uncond", "cond")


@given(
    scale=st.floats(0, 30), rescale=st.floats(0, 1), low=st.floats(0, 20), width=st.floats(0, 20), sigma=st.floats(0, 40),
    timestep=st.floats(0, 1000), pag=st.none() | st.floats(0.01, 20), adaptive=st.floats(0, 0.1), unconditioned=st.booleans(),
    weights=st.sampled_from([(1.0,), (1.0, 0.5), (0.4, 0.6), (1.0, -1.0, 1.0), (2.0,)]),
)  # fmt: skip
def test_any_guidance_makes_a_finite_answer_of_the_rows_it_asks_for(
    scale, rescale, low, width, sigma, timestep, pag, adaptive, unconditioned, weights
):
    perturbation = None if pag is None else Perturbation(scale=pag, adaptive=adaptive, layers=("a",))
    whole = Guidance(
        scale=scale, rescale=rescale, interval=(low, low + width), unconditioned=unconditioned, weights=weights,
        perturbation=perturbation,
    )  # fmt: skip
    now = whole.at(sigma, timestep)
    assert set(now.rows()) <= set(whole.rows()), "a run is given conditionings for all it may ask for"
    assert len(set(now.rows())) == len(now.rows())
    rows = answers(*now.rows())
    answer = now.answer(rows)
    assert answer.shape == (4, 6, 6)
    assert torch.isfinite(answer).all()
    # Where all rows say the same, there is nothing to go from or to.
    same = now.answer(dict.fromkeys(now.rows(), rows["cond"]))
    if "uncond" in now.rows() or math.isclose(sum(weights), 1.0):
        torch.testing.assert_close(same, rows["cond"], atol=1e-4, rtol=1e-4)
