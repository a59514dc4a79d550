"""What of guidance is switched on a pipeline and not in a call, under diffusers' names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sfumato.pipeline.face import Face

if TYPE_CHECKING:
    from sfumato.models.freeu import FreeU
    from sfumato.pipeline.guidance_options import GuidanceOptions
    from sfumato.pipeline.request import Request


class Guiding(Face):
    """FreeU, and the layers of perturbed-attention guidance. Mixed into the pipeline, which owns the parts."""

    _pag_scale: ClassVar[float] = 0.0
    """The scale of perturbed-attention guidance where a call gives none."""

    _pag_layers: tuple[str, ...] = ("mid",)
    _freeu: "FreeU | None" = None
    _guided_by: "GuidanceOptions | None" = None

    def enable_freeu(self, s1: float, s2: float, b1: float, b2: float) -> None:
        """Weigh what the U-Net reads on its way up, from now on and in this pipeline alone; see `FreeU`. Raises OptionError."""
        from sfumato.pipeline.guidance_options import check_freeu

        self._freeu = check_freeu((s1, s2, b1, b2))

    def disable_freeu(self) -> None:
        """Leave what the U-Net reads on its way up as it is."""
        self._freeu = None

    def set_pag_applied_layers(self, pag_applied_layers: str | Sequence[str]) -> None:
        """Perturb these self-attentions where a call has a `pag_scale`: parts of diffusers' names, such as "mid" or "down_blocks.1".

        Raises OptionError for one that is in no name.
        """
        from sfumato.pipeline.guidance_options import check_layers
        from sfumato.pipeline.perturbing import perturbed_layers

        layers = check_layers(pag_applied_layers)
        perturbed_layers(self.unet, layers)
        self._pag_layers = layers

    @property
    def _guidance(self) -> "GuidanceOptions":
        """Of the running or last call."""
        from sfumato.pipeline.guidance_options import NOTHING

        return self._guided_by or NOTHING

    @property
    def pag_applied_layers(self) -> list[str]:
        """The self-attentions that are perturbed where a call has a `pag_scale`."""
        return list(self._pag_layers)

    @property
    def pag_scale(self) -> float:
        """The scale of perturbed-attention guidance of the running or last call."""
        return 0.0 if self._guidance.perturbation is None else self._guidance.perturbation.scale

    @property
    def pag_adaptive_scale(self) -> float:
        """How much of that scale is gone with each timestep of the running or last call."""
        return 0.0 if self._guidance.perturbation is None else self._guidance.perturbation.adaptive

    @property
    def do_perturbed_attention_guidance(self) -> bool:
        """Whether the running or last call is guided away from a perturbed network."""
        return self._guidance.perturbation is not None

    @property
    def guidance_rescale(self) -> float:
        """How far the running or last call's guided answers are rescaled."""
        return self._guidance.rescale

    def _begin(self, request: "Request") -> None:
        """Note what callbacks may ask of guidance. Raises OptionError for options that are not for the run, before any work is done."""
        from sfumato.pipeline.fast_options import check_fast
        from sfumato.pipeline.guidance_options import options_of
        from sfumato.pipeline.image_to_image import levels_of

        super()._begin(request)
        check_fast(request, self.unet)
        self._guided_by = guidance = options_of(request)
        levels = levels_of(self.scheduler, request.steps, request.workflow)
        guidance.of_run(levels, unconditioned=self.scheduler.unconditioned)

    def _guidance_options(self, others: dict[str, Any]) -> "GuidanceOptions":
        """The options on guidance, taken out of all of a call's. Raises OptionError."""
        from sfumato.pipeline.guidance_options import GuidanceOptions, Usual

        usual = Usual(pag_scale=self._pag_scale, pag_applied_layers=self._pag_layers, freeu=self._freeu)
        return GuidanceOptions.taken_from(others, self.unet, usual)
