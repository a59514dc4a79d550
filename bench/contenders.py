"""Who takes part: Sfumato and its peers, each with the environment it runs in and the file of `peers/` that plays it."""

from dataclasses import dataclass

TORCH = "torch==2.13.0"
"""The version everything is measured with. It is installed first and alone, so that no package brings another."""
OURS = "sfumato"
"""The environment the bench itself runs in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A Python environment: what is installed into it, one call of pip after the other, and whose versions are told."""

    name: str
    installs: tuple[tuple[str, ...], ...] = ()
    told: tuple[str, ...]


ENVIRONMENTS = {
    one.name: one
    for one in (
        Environment(name=OURS, told=("sfumato", "torch")),
        Environment(
            name="diffusers",
            installs=((TORCH,), ("diffusers==0.42.1", "transformers==5.23.0", "accelerate>=1.2")),
            told=("diffusers", "transformers", "torch"),
        ),
        Environment(
            name="openvino",
            installs=(
                (TORCH,),
                ("openvino==2026.4.1", "nncf", "diffusers==0.42.1", "transformers==5.23.0", "accelerate>=1.2"),
            ),
            told=("openvino", "nncf"),
        ),
        Environment(
            name="sdcpp",
            installs=(("numpy", "Pillow"), ("stable-diffusion-cpp-python==0.4.7",)),
            told=("stable-diffusion-cpp-python",),
        ),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """What a contender makes once of the checkpoint: the task that makes it, and the empty file of the cache that says it is made."""

    task: str
    made: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One that can be measured. `player` is its file in `peers/`, and `variant` tells that how to play."""

    key: str
    title: str
    environment: str
    player: str
    variant: str = ""
    prepares: tuple[Preparation, ...] = ()


CONVERTED = Preparation(task="convert", made="openvino/converted")
QUANTISED = Preparation(task="quantise", made="openvino/quantised")

CONTENDERS = {
    one.key: one
    for one in (
        Contender(key="sfumato", title="Sfumato", environment=OURS, player="sfumato"),
        Contender(key="sfumato-int8", title="Sfumato int8", environment=OURS, player="sfumato", variant="int8"),
        Contender(key="torch", title="PyTorch", environment=OURS, player="torch"),
        Contender(key="ceilings", title="the machine", environment=OURS, player="ceilings"),
        Contender(key="work", title="the work", environment=OURS, player="work"),
        Contender(key="diffusers", title="diffusers", environment="diffusers", player="diffusers"),
        Contender(
            key="diffusers-compiled", title="diffusers compiled", environment="diffusers", player="diffusers",
            variant="compiled",
        ),
        Contender(
            key="openvino", title="OpenVINO FP32", environment="openvino", player="openvino", prepares=(CONVERTED,)
        ),
        Contender(
            key="openvino-int8", title="OpenVINO int8", environment="openvino", player="openvino", variant="int8",
            prepares=(CONVERTED, QUANTISED),
        ),
        Contender(key="sdcpp", title="stable-diffusion.cpp f16", environment="sdcpp", player="sdcpp"),
    )
}  # fmt: skip
