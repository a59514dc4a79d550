"""The samplers, by the short names of the field."""

from sfumato.diffusion.samplers.ddim import ddim
from sfumato.diffusion.samplers.ddim_cfgpp import ddim_cfgpp
from sfumato.diffusion.samplers.ddpm import ddpm
from sfumato.diffusion.samplers.deis import deis
from sfumato.diffusion.samplers.dpm2 import dpm2
from sfumato.diffusion.samplers.dpm2_ancestral import dpm2_ancestral
from sfumato.diffusion.samplers.dpm_adaptive import dpm_adaptive
from sfumato.diffusion.samplers.dpm_fast import dpm_fast, steps_of
from sfumato.diffusion.samplers.dpm_multistep import dpm_multistep
from sfumato.diffusion.samplers.dpmpp_2m import dpmpp_2m
from sfumato.diffusion.samplers.dpmpp_2m_sde import dpmpp_2m_sde, dpmpp_2m_sde_heun
from sfumato.diffusion.samplers.dpmpp_2s_ancestral import dpmpp_2s_ancestral
from sfumato.diffusion.samplers.dpmpp_3m_sde import dpmpp_3m_sde
from sfumato.diffusion.samplers.dpmpp_sde import dpmpp_sde
from sfumato.diffusion.samplers.dpmpp_singlestep import dpmpp_singlestep
from sfumato.diffusion.samplers.euler import euler
from sfumato.diffusion.samplers.euler_ancestral import euler_ancestral
from sfumato.diffusion.samplers.heun import heun
from sfumato.diffusion.samplers.info import SamplerInfo
from sfumato.diffusion.samplers.ipndm import ipndm
from sfumato.diffusion.samplers.lcm import lcm
from sfumato.diffusion.samplers.lms import lms
from sfumato.diffusion.samplers.plms import plms
from sfumato.diffusion.samplers.restart import restart, restart_plan
from sfumato.diffusion.samplers.sa_solver import sa_solver
from sfumato.diffusion.samplers.tcd import tcd
from sfumato.diffusion.samplers.unipc import unipc

_SAMPLERS = (
    SamplerInfo(
        name="plms",
        title="PLMS",
        aliases=("PNDM",),
        function=plms,
        order=2,
        schedule="ddim",
        paper="Liu et al. 2022, arXiv:2202.09778",
    ),
    SamplerInfo(
        name="ddim",
        title="DDIM",
        function=ddim,
        order=1,
        schedule="ddim",
        paper="Song et al. 2021, arXiv:2010.02502",
    ),
    SamplerInfo(
        name="ddim_cfgpp",
        title="DDIM CFG++",
        aliases=("ddim_cfg++", "ddim_cfg_pp"),
        function=ddim_cfgpp,
        order=1,
        unconditioned=True,
        schedule="ddim",
        paper="Chung et al. 2024, arXiv:2406.08070",
    ),
    SamplerInfo(
        name="ddpm",
        title="DDPM",
        function=ddpm,
        order=1,
        noise="steps",
        paper="Ho et al. 2020, arXiv:2006.11239",
    ),
    SamplerInfo(
        name="euler",
        title="Euler",
        aliases=("k_euler", "sample_euler", "EulerDiscrete"),
        function=euler,
        order=1,
        paper="Karras et al. 2022, arXiv:2206.00364",
    ),
    SamplerInfo(
        name="euler_a",
        title="Euler a",
        aliases=(
            "Euler ancestral",
            "euler_ancestral",
            "k_euler_a",
            "k_euler_ancestral",
            "sample_euler_ancestral",
            "EulerAncestralDiscrete",
        ),
        function=euler_ancestral,
        order=1,
        noise="steps",
        paper="K. Crowson, k-diffusion; Ho et al. 2020, arXiv:2006.11239",
    ),
    SamplerInfo(
        name="heun",
        title="Heun",
        aliases=("k_heun", "sample_heun", "HeunDiscrete"),
        function=heun,
        order=2,
        evaluations_per_step=2,
        paper="Karras et al. 2022, arXiv:2206.00364",
    ),
    SamplerInfo(
        name="dpm2",
        title="DPM2",
        aliases=("dpm_2", "k_dpm_2", "sample_dpm_2", "KDPM2Discrete"),
        function=dpm2,
        order=2,
        evaluations_per_step=2,
        schedule="karras",
        drops_penultimate=True,
        paper="Lu et al. 2022, arXiv:2206.00927; K. Crowson, k-diffusion",
    ),
    SamplerInfo(
        name="dpm2_a",
        title="DPM2 a",
        aliases=(
            "DPM2 ancestral",
            "dpm_2_ancestral",
            "k_dpm_2_a",
            "k_dpm_2_ancestral",
            "sample_dpm_2_ancestral",
            "KDPM2AncestralDiscrete",
        ),
        function=dpm2_ancestral,
        order=2,
        evaluations_per_step=2,
        noise="steps",
        schedule="karras",
        drops_penultimate=True,
        paper="Lu et al. 2022, arXiv:2206.00927; K. Crowson, k-diffusion",
    ),
    SamplerInfo(
        name="lms",
        title="LMS",
        aliases=("k_lms", "sample_lms", "LMSDiscrete", "ipndm_v"),
        function=lms,
        order=4,
        paper="K. Crowson, k-diffusion",
    ),
    SamplerInfo(
        name="dpm_fast",
        title="DPM fast",
        aliases=("k_dpm_fast", "sample_dpm_fast"),
        function=dpm_fast,
        order=3,
        evaluations_per_step=3,
        steps=steps_of,
        schedule="exponential",
        paper="Lu et al. 2022, arXiv:2206.00927",
    ),
    SamplerInfo(
        name="dpm_adaptive",
        title="DPM adaptive",
        aliases=("k_dpm_ad", "k_dpm_adaptive", "sample_dpm_adaptive"),
        function=dpm_adaptive,
        order=3,
        evaluations_per_step=3,
        steps=lambda _: None,
        schedule="exponential",
        paper="Lu et al. 2022, arXiv:2206.00927",
    ),
    SamplerInfo(
        name="dpmpp_2s_a",
        title="DPM++ 2S a",
        aliases=("DPM++ 2S ancestral", "dpmpp_2s_ancestral", "k_dpmpp_2s_a", "sample_dpmpp_2s_ancestral"),
        function=dpmpp_2s_ancestral,
        order=2,
        evaluations_per_step=2,
        noise="steps",
        schedule="karras",
        paper="Lu et al. 2022, arXiv:2211.01095; K. Crowson, k-diffusion",
    ),
    SamplerInfo(
        name="dpmpp_sde",
        title="DPM++ SDE",
        aliases=("k_dpmpp_sde", "sample_dpmpp_sde", "DPMSolverSDE"),
        function=dpmpp_sde,
        order=2,
        evaluations_per_step=2,
        noise="path",
        schedule="karras",
        paper="Lu et al. 2022, arXiv:2211.01095; K. Crowson, k-diffusion",
    ),
    SamplerInfo(
        name="dpmpp_2m",
        title="DPM++ 2M",
        aliases=("k_dpmpp_2m", "sample_dpmpp_2m", "DPMSolverMultistep"),
        function=dpmpp_2m,
        order=2,
        schedule="karras",
        paper="Lu et al. 2022, arXiv:2211.01095",
    ),
    SamplerInfo(
        name="dpmpp_2m_sde",
        title="DPM++ 2M SDE",
        aliases=("k_dpmpp_2m_sde", "sample_dpmpp_2m_sde"),
        function=dpmpp_2m_sde,
        order=2,
        noise="path",
        schedule="exponential",
        paper="Lu et al. 2022, arXiv:2211.01095; K. Crowson, k-diffusion",
    ),
    SamplerInfo(
        name="dpmpp_2m_sde_heun",
        title="DPM++ 2M SDE Heun",
        aliases=("k_dpmpp_2m_sde_heun",),
        function=dpmpp_2m_sde_heun,
        order=2,
        noise="path",
        schedule="exponential",
        paper="Lu et al. 2022, arXiv:2211.01095; K. Crowson, k-diffusion",
    ),
    SamplerInfo(
        name="dpmpp_3m_sde",
        title="DPM++ 3M SDE",
        aliases=("k_dpmpp_3m_sde", "sample_dpmpp_3m_sde"),
        function=dpmpp_3m_sde,
        order=2,
        noise="path",
        schedule="exponential",
        drops_penultimate=True,
        paper="K. Crowson, k-diffusion; Lu et al. 2022, arXiv:2211.01095",
    ),
    SamplerInfo(
        name="dpmpp_2s",
        title="DPM++ 2S",
        aliases=("DPMSolverSinglestep",),
        function=dpmpp_singlestep,
        order=2,
        paper="Lu et al. 2022, arXiv:2211.01095",
    ),
    SamplerInfo(
        name="dpm_2m",
        title="DPM 2M",
        function=dpm_multistep,
        order=2,
        paper="Lu et al. 2022, arXiv:2206.00927",
    ),
    SamplerInfo(
        name="restart",
        title="Restart",
        aliases=("restart_sampler",),
        function=restart,
        order=2,
        evaluations_per_step=2,
        noise="steps",
        steps=lambda sigmas: len(restart_plan(sigmas)),
        schedule="karras",
        paper="Xu et al. 2023, arXiv:2306.14878",
    ),
    SamplerInfo(
        name="unipc",
        title="UniPC",
        aliases=("uni_pc", "UniPCMultistep"),
        function=unipc,
        order=3,
        schedule="ddim",
        paper="Zhao et al. 2023, arXiv:2302.04867",
    ),
    SamplerInfo(
        name="deis",
        title="DEIS",
        aliases=("DEISMultistep",),
        function=deis,
        order=3,
        paper="Zhang & Chen 2023, arXiv:2204.13902",
    ),
    SamplerInfo(
        name="ipndm",
        title="IPNDM",
        function=ipndm,
        order=2,
        paper="Zhang & Chen 2023, arXiv:2204.13902; Liu et al. 2022, arXiv:2202.09778",
    ),
    SamplerInfo(
        name="sa_solver",
        title="SA-Solver",
        aliases=("SASolver", "sa-solver"),
        function=sa_solver,
        order=2,
        noise="steps",
        paper="Xue et al. 2023, arXiv:2309.05019",
    ),
    SamplerInfo(
        name="lcm",
        title="LCM",
        aliases=("sample_lcm",),
        function=lcm,
        order=None,
        noise="steps",
        paper="Luo et al. 2023, arXiv:2310.04378",
    ),
    SamplerInfo(
        name="tcd",
        title="TCD",
        function=tcd,
        order=1,
        paper="Zheng et al. 2024, arXiv:2402.19159",
    ),
)

SAMPLERS: dict[str, SamplerInfo] = {info.name: info for info in _SAMPLERS}
"""Every sampler, in the order that people are shown them."""
