"""Samplers and schedules by the names that each program has for them, in the words of AUTOMATIC1111's web UI."""

from collections.abc import Mapping

# Where the web UI's "Automatic" is not its uniform schedule.
AUTOMATIC: Mapping[str, str] = {
    **dict.fromkeys(("DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"), "karras"),
    **dict.fromkeys(("DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"), "exponential"),
    **dict.fromkeys(("DDIM", "DDIM CFG++", "PLMS", "UniPC"), "ddim"),
}

# Schedules that a sampler's name could end in, before the web UI had a setting of its own for them.
JOINED = ("Karras", "Exponential", "Polyexponential")

STOCHASTIC = frozenset(
    {"Euler a", "DPM2 a", "DPM++ 2S a", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", "DDPM", "LCM", "TCD", "Restart"}
)  # fmt: skip
"""Samplers that take noise at their steps."""

COMFY_SAMPLERS: Mapping[str, str] = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_sde_gpu": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_gpu": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_3m_sde_gpu": "DPM++ 3M SDE",
    "ddpm": "DDPM",
    "ddim": "DDIM",
    "lcm": "LCM",
    "uni_pc": "UniPC",
    "ipndm": "IPNDM",
    "deis": "DEIS",
}
COMFY_SCHEDULES: Mapping[str, str] = {
    "normal": "normal",
    "karras": "karras",
    "exponential": "exponential",
    "sgm_uniform": "sgm_uniform",
    "simple": "simple",
    "ddim_uniform": "ddim",
    "beta": "beta",
    "kl_optimal": "kl_optimal",
}

# InvokeAI's are diffusers' schedulers; an ending "_k" asks for Karras' levels.
INVOKE_SAMPLERS: Mapping[str, str] = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "deis": "DEIS",
    "dpmpp_2s": "DPM++ 2S",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "kdpm_2": "DPM2",
    "kdpm_2_a": "DPM2 a",
    "lcm": "LCM",
    "lms": "LMS",
    "pndm": "PLMS",
    "tcd": "TCD",
    "unipc": "UniPC",
}
# Of its pictures before version 3.
INVOKE_OLD_SAMPLERS: Mapping[str, str] = {
    "ddim": "DDIM",
    "plms": "PLMS",
    "k_dpm_2": "DPM2",
    "k_dpm_2_a": "DPM2 a",
    "k_euler": "Euler",
    "k_euler_a": "Euler a",
    "k_heun": "Heun",
    "k_lms": "LMS",
}

NOVELAI_SAMPLERS: Mapping[str, str] = {
    "ddim": "DDIM",
    "plms": "PLMS",
    "k_euler": "Euler",
    "k_euler_ancestral": "Euler a",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_dpm_2": "DPM2",
    "k_dpm_2_ancestral": "DPM2 a",
    "k_dpm_fast": "DPM fast",
    "k_dpm_adaptive": "DPM adaptive",
    "k_dpmpp_2m": "DPM++ 2M",
    "k_dpmpp_2m_sde": "DPM++ 2M SDE",
    "k_dpmpp_2s_ancestral": "DPM++ 2S a",
    "k_dpmpp_sde": "DPM++ SDE",
}
NOVELAI_SCHEDULES: Mapping[str, str] = {
    "native": "uniform",
    "karras": "karras",
    "exponential": "exponential",
    "polyexponential": "polyexponential",
}
