"""The option names of diffusers' schedulers, and checks of their values."""

import math
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sfumato.errors import OptionError, UnknownNameError

# Every option that a scheduler class of the field has: a config carries them from class to class, for the one that reads them.
# An option outside this list is a slip of the pen, or newer than this program.
OPTIONS_OF_THE_FIELD = {
    "algorithm_type", "beta_end", "beta_schedule", "beta_start", "clip_sample", "clip_sample_range",
    "corrector_order", "disable_corrector", "dynamic_thresholding_ratio", "euler_at_final", "final_sigmas_type",
    "flow_shift", "interpolation_type", "lambda_min_clipped", "lower_order_final", "noise_sampler_seed",
    "num_train_timesteps", "original_inference_steps", "predict_x0", "prediction_type", "predictor_order",
    "rescale_betas_zero_snr", "rho", "sample_max_value", "set_alpha_to_one", "shift_terminal", "sigma_data",
    "sigma_max", "sigma_min", "sigma_schedule", "skip_prk_steps", "snr_shift_scale", "solver_order", "solver_p",
    "solver_type", "steps_offset", "tau_func", "thresholding", "time_shift_type", "timestep_scaling",
    "timestep_spacing", "timestep_type", "trained_betas", "use_beta_sigmas", "use_dynamic_shifting",
    "use_exponential_sigmas", "use_flow_sigmas", "use_karras_sigmas", "use_lu_lambdas", "variance_type",
}  # fmt: skip

OWN_OPTIONS = {"eta", "s_churn", "s_noise", "s_tmax", "s_tmin", "sampler_name", "schedule"}
"""The options of KDiffusionScheduler that no class of diffusers has."""

RETIRED_OPTIONS = {
    "denoise_final": "DPM-Solver's last step to 0, before final_sigmas_type",
    "predict_epsilon": "before prediction_type: false means sample, true the default",
    "set_alpha_to_zero": "DDIM's inverse, before it had set_alpha_to_one",
    "tensor_format": "pt or np, when schedulers also computed with numpy",
    "timestep_values": "a run's timesteps, when they could be fixed in the config",
    "timesteps": "the same",
}
"""Options that old configs hold and no release of today reads, with what each was. All but a false predict_epsilon are dropped."""

OLDER_SAMPLE = "original_sample"
"""What the prediction type "sample" was once called: diffusers still reads it, and the latent upscaler's config still says it."""

SCHEDULERS_OF_THE_FIELD = {
    "AmusedScheduler", "CMStochasticIterativeScheduler", "CosineDPMSolverMultistepScheduler", "DDIMInverseScheduler",
    "DDIMParallelScheduler", "DDPMParallelScheduler", "DDPMWuerstchenScheduler", "DPMSolverMultistepInverseScheduler",
    "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler", "IPNDMScheduler", "KarrasVeScheduler", "RePaintScheduler",
    "SCMScheduler", "ScoreSdeVeScheduler", "ScoreSdeVpScheduler", "UnCLIPScheduler", "VQDiffusionScheduler",
}  # fmt: skip
"""Scheduler classes of diffusers that a model may name and Sfumato has not."""


def one_of(kind: str, value: object, known: tuple[str, ...]) -> None:
    """Raise UnknownNameError unless `value` is a known name of that kind."""
    if value not in known:
        raise UnknownNameError(kind, str(value), known)


def check_kinds(kind: type, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check each value against its field's annotation in a dataclass; an infinite number only passes where it is the default.

    Raises OptionError for a value of the wrong kind, UnknownNameError for a name that is none of a literal's.
    """
    hints = _hints(kind)
    for name, value in values.items():
        members = get_args(hints[name]) if get_origin(hints[name]) in (Union, UnionType) else (hints[name],)
        if value is None and NoneType in members:
            continue
        expected = next(member for member in members if member is not NoneType)
        if get_origin(expected) is Literal and isinstance(value, str):
            one_of(name.replace("_", " "), value, get_args(expected))
        elif (said := _not_of(expected, value)) and not (value in (math.inf, -math.inf) and value == defaults[name]):
            raise OptionError(f"{name}={value!r} is not {said}; give {said}, such as the default {defaults[name]!r}.")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _not_of(expected: Any, value: object) -> str | None:
    """What was expected, in words, if a value is not of that kind."""
    if expected is bool:
        return None if isinstance(value, bool) else "True or False"
    if expected is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if expected is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "a finite number"
        return None if abs(value) <= sys.float_info.max else "a finite number"
    if get_origin(expected) is Sequence:
        return None if isinstance(value, Sequence) and not isinstance(value, str) else "a list of numbers"
    return None if isinstance(value, str) else "a name"
