"""Which family a model belongs to, and what shows it: from how its U-Net is built, which keys and shapes tell."""

from dataclasses import dataclass

from sfumato.errors import ConfigError
from sfumato.models import AnyUNetConfig, LatentUpscalerConfig, UNetConfig
from sfumato.variants import FAMILIES, SD2, SD2_V, SD_TURBO, SDXL_TURBO, Family, Make

# What a U-Net reads beside the noisy latents, by how many channels more it reads than it writes, of 4: told from keys and shapes.
READS: dict[int, str] = {
    0: "",
    1: "a depth map",
    3: "the pixels of a small picture",
    4: "the latents of a picture",
    5: "a mask and the latents of a masked picture",
}


@dataclass(frozen=True, slots=True)
class Detected:
    """A family, and what showed it, in words."""

    family: Family
    reasons: tuple[str, ...]


def detect_family(
    unet: AnyUNetConfig, *, prediction: str | None = None, spacing: str | None = None, name: str | None = None
) -> Detected:
    """The family of a U-Net, from how it is built and how much it reads.

    `prediction` and `spacing` are its scheduler's, where something says them: no tensor does. Where nothing says what a model of SD 2
    predicts, it is taken for the 768 one. `name` is the family that somebody says it is, which must be built as this one is.
    Raises ConfigError for a U-Net of no known family, or of another make than `name`.
    """
    reasons = [make_of(unet)[1]]
    extra = reads_beside(unet)
    if extra:
        reads = READS.get(extra)
        editing = "upscaling" if isinstance(unet, LatentUpscalerConfig) else "editing"
        kind = {1: "depth", 3: "upscaling", 4: editing, 5: "inpainting"}.get(extra, "unknown")
        if reads is None:
            raise ConfigError(
                f"its U-Net reads {unet.in_channels} channels and writes {unet.out_channels}, which is no family that Sfumato knows; "
                "4 are text to image, 5 depth, 7 upscaling, 8 editing, 9 inpainting"
            )
        reasons.append(f"{unet.in_channels} input channels: the latents and {reads}, so {kind}")
    if is_told_guidance(unet):
        reasons.append("it is told its guidance scale: distilled to few steps (LCM)")

    fits = [family for family in FAMILIES.values() if is_built_as(unet, family)]
    if name is not None:
        if name not in FAMILIES:
            raise ConfigError(f"there is no family {name!r}; known: {', '.join(FAMILIES)}")
        if FAMILIES[name] not in fits:
            raise ConfigError(
                f"this model is not of the family {name}: {'; '.join(reasons)}; expected {' or '.join(f.name for f in fits) or 'another'}"
            )
        return Detected(FAMILIES[name], (*reasons, f"said to be {name}"))
    if not fits:
        raise ConfigError(f"this model is of no family that Sfumato knows: {'; '.join(reasons)}")

    family = fits[0]
    # Those that predict v have trailing spacing because they were trained down to no signal (Lin et al. 2023), and take all their steps.
    if (
        spacing == "trailing"
        and prediction != "v_prediction"
        and (few := next((f for f in fits if f in (SD_TURBO, SDXL_TURBO)), None)) is not None
    ):
        family = few
        reasons.append("its scheduler's spacing is trailing: distilled to few steps")
    elif family is SD2:
        family = SD2 if prediction == "epsilon" else SD2_V
        reasons.append(
            f"its scheduler says {prediction}"
            if prediction
            else "what it predicts is in no tensor; taken for v_prediction"
        )
    return Detected(family, tuple(reasons))


def make_of(unet: AnyUNetConfig) -> tuple[Make, str]:
    """How a U-Net is built, and what shows it."""
    if isinstance(unet, LatentUpscalerConfig):
        return (
            "latent-upscaler",
            "its U-Net is told the time in its norms (k-diffusion's blocks): the latent ×2 upscaler",
        )
    if unet.noise_levels is not None:
        return "upscaler", "its U-Net is told how noisy a second picture is: the ×4 upscaler"
    if unet.sizes_width is not None:
        # The refiner reads one text encoder, whose pooled vector is as wide as its context, and five numbers instead of six.
        if unet.sizes_width == unet.context_dim + 5 * unet.size_width:
            return "refiner", "its U-Net is told five numbers beside a pooled text: SDXL's refiner"
        return "sdxl", "its U-Net is told a pooled text and the sizes of pictures: SDXL"
    if unet.linear_projection:
        return "sd2", f"linear projections around its attention, and a text {unet.context_dim} wide: SD 2"
    return "sd1", f"convolutions around its attention, and a text {unet.context_dim} wide: SD 1"


def reads_beside(unet: AnyUNetConfig) -> int:
    """How many channels a U-Net reads beside the noisy latents."""
    return unet.in_channels - unet.latent_channels


def is_told_guidance(unet: AnyUNetConfig) -> bool:
    """Whether a U-Net is told its guidance scale."""
    return isinstance(unet, UNetConfig) and unet.guidance_width is not None


def is_built_as(unet: AnyUNetConfig, family: Family) -> bool:
    """Whether a U-Net is of a family's make, reads what that reads, and is told its guidance scale if that is."""
    theirs = family.unet
    return (
        make_of(unet)[0] == family.make
        and reads_beside(unet) == reads_beside(theirs)
        and is_told_guidance(unet) == is_told_guidance(theirs)
    )
