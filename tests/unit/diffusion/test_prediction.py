import math
from typing import get_args

import pytest
import torch

from sfumato.diffusion.prediction import PredictionType, denoised_from, network_scale, output_for

X0 = torch.tensor([0.5, -1.0, 0.25])
NOISE = torch.tensor([1.0, 0.3, -0.7])


@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6])
def test_each_prediction_of_a_perfect_network_is_denoised_to_x0(sigma):
    x = X0 + sigma * NOISE
    scale = 1 / math.sqrt(1 + sigma**2)  # the root of alphas_cumprod
    outputs = {"epsilon": NOISE, "v_prediction": scale * NOISE - scale * sigma * X0, "sample": X0}
    for prediction, output in outputs.items():
        torch.testing.assert_close(denoised_from(output, x, sigma, prediction), X0, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(output_for(X0, x, sigma, prediction), output, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("prediction", get_args(PredictionType))
@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6])
def test_output_and_denoised_are_each_other_s_inverse(prediction, sigma):
    x = X0 + sigma * NOISE
    output = torch.tensor([0.1, 0.2, -0.9])
    denoised = denoised_from(output, x, sigma, prediction)
    torch.testing.assert_close(output_for(denoised, x, sigma, prediction), output, atol=5e-6, rtol=1e-5)


def test_the_network_sees_unit_variance():
    for sigma in (0.0, 0.5, 14.6):
        assert network_scale(sigma) ** 2 * (1 + sigma**2) == pytest.approx(1)


def test_float32_stays_float32():
    for prediction in get_args(PredictionType):
        assert denoised_from(NOISE, X0, 0.5, prediction).dtype == torch.float32
