"""What notebooks read from a pipeline beside calling it, under the names they know."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from sfumato.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from sfumato.adapters import ActiveAdapters
    from sfumato.checkpoints import Card
    from sfumato.models.clip_text import CLIPTextEncoder
    from sfumato.models.unet import UNet
    from sfumato.models.vae import AutoencoderKL
    from sfumato.pipeline.conditioning import Reader
    from sfumato.pipeline.decoding import ImageProcessor
    from sfumato.pipeline.request import Request
    from sfumato.pipeline.source import Source
    from sfumato.recipe import SafetyMode
    from sfumato.schedulers import Scheduler
    from sfumato.text.tokenizer import Tokenizer
    from sfumato.text.words import KnownWords
    from sfumato.variants import Family


class PipelineConfig(dict[str, Any]):
    """What a pipeline is made of, for reading: `config["unet"]` or `config.requires_safety_checker`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the pipeline's config has no {name!r}; it has {', '.join(self)}") from None


class Face:
    """Mixed into the pipeline, which owns the parts. Parts are checked, and converted where they can be, as they are put in."""

    unet: "UNet"
    vae: "AutoencoderKL"
    text_encoder: "CLIPTextEncoder"
    text_encoder_2: "CLIPTextEncoder | None" = None
    tokenizer: "Tokenizer"
    tokenizer_2: "Tokenizer | None" = None
    requires_safety_checker: bool
    scheduler: "Scheduler"
    safety_checker: Any
    safety_mode: "SafetyMode"
    feature_extractor: Mapping[str, Any] | None
    card: "Card"
    defaults: dict[str, Any]
    source: "Source"
    _active_adapters: "Callable[..., ActiveAdapters]"
    _is_adapted: Callable[[], bool]
    _progress: dict[str, Any]
    _interrupt: bool = False
    _num_timesteps: int = 0
    _guidance_scale: float = 7.5
    _clip_skip: int | None = None

    _came_with: tuple[str | None, str | None] = (None, None)
    """What the model's own scheduler takes the U-Net to predict, and its spacing."""

    _optional: Collection[str] = ()
    """Parts that may be None."""

    def __setattr__(self, name: str, value: Any) -> None:
        from sfumato.pipeline.parts import as_part

        object.__setattr__(self, name, as_part(name, value, self._optional))

    # Hidden from type checkers, so that they go on telling a slip of the pen.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            from sfumato.pipeline.absent import refuse

            refuse(name)

    # -- what it is made of ------------------------------------------------------------------------------------------

    def _networks(self) -> dict[str, torch.nn.Module]:
        networks: dict[str, torch.nn.Module] = {"unet": self.unet, "vae": self.vae, **self._encoders()}
        if isinstance(self.safety_checker, torch.nn.Module):
            networks["safety_checker"] = self.safety_checker
        return networks

    def _encoders(self) -> "dict[str, CLIPTextEncoder]":
        """The text encoders by name: one, or the two of SDXL."""
        both = {"text_encoder": self.text_encoder, "text_encoder_2": self.text_encoder_2}
        return {name: encoder for name, encoder in both.items() if encoder is not None}

    def _readers(self) -> "list[Reader]":
        """The text encoders with their tokenizers."""
        from sfumato.pipeline.conditioning import Reader

        tokenizers = {"text_encoder": self.tokenizer, "text_encoder_2": self.tokenizer_2}
        return [
            Reader(name, tokenizer, encoder)
            for name, encoder in self._encoders().items()
            if (tokenizer := tokenizers[name]) is not None
        ]

    @property
    def family(self) -> "Family":
        """The family of models that it belongs to, told from its U-Net and the scheduler that it came with: another may have been put in."""
        from sfumato.checkpoints.families import detect_family

        prediction, spacing = self._came_with
        return detect_family(self.unet.config, prediction=prediction, spacing=spacing).family

    @property
    def components(self) -> dict[str, Any]:
        """Every part by name, as the constructor takes them."""
        others = {
            "tokenizer": self.tokenizer,
            "scheduler": self.scheduler,
            "safety_checker": self.safety_checker,
            "feature_extractor": self.feature_extractor,
        }
        second = {} if self.tokenizer_2 is None else {"tokenizer_2": self.tokenizer_2}
        return dict.fromkeys(self._optional) | self._networks() | others | second

    def _options(self) -> dict[str, Any]:
        """The pipeline's options in diffusers, as its config and a saved model's index name them."""
        return {}

    def _is_as_opened(self) -> bool:
        """Whether what understands a prompt is still what was opened, so that the model's card is true of it."""
        return not self.source.changed(unet=self.unet, **self._encoders()) and not self._is_adapted()

    def _known_words(self, adapters: "ActiveAdapters") -> "KnownWords | None":
        """The words the model was taught, where it says so; None once it, or what runs beside it, may have been taught others."""
        return self.card.known_words if self._is_as_opened() and not adapters.weighted else None

    # -- where it is, and how far ------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the U-Net is."""
        return self.unet.device

    @property
    def _execution_device(self) -> torch.device:
        return self.device

    @property
    def dtype(self) -> torch.dtype:
        """What the U-Net computes in."""
        return self.unet.dtype

    @property
    def vae_scale_factor(self) -> int:
        """Pixels a latent, along each side."""
        return self.vae.scale

    @property
    def config(self) -> PipelineConfig:
        """The class of each part, in diffusers' form; to change a part, assign it."""
        parts = {
            name: [None, None] if part is None else ["sfumato", type(part).__name__]
            for name, part in self.components.items()
        }
        options = {"_class_name": type(self).__name__, "requires_safety_checker": self.requires_safety_checker}
        return PipelineConfig(options | self._options() | parts)

    @property
    def interrupt(self) -> bool:
        """Whether the running call was asked to stop; set `pipe._interrupt = True` in a callback to ask."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Steps of the running or last call.

        PLMS evaluates its second timestep twice, first to correct its first step: one step here, two in diffusers.
        """
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float:
        """Guidance scale of the running or last call."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the running or last call is guided: a network that is told its guidance scale is not."""
        from sfumato.checkpoints.families import is_told_guidance

        return self._guidance_scale > 1 and not is_told_guidance(self.unet.config)

    @property
    def clip_skip(self) -> int | None:
        """Layers that the running or last call leaves out of the text encoder."""
        return self._clip_skip

    def _begin(self, request: "Request") -> None:
        """Note what the callbacks of a call may ask of the pipeline."""
        from sfumato.pipeline.image_to_image import levels_of

        self._num_timesteps = levels_of(self.scheduler, request.steps, request.workflow).steps
        self._guidance_scale = request.guidance_scale
        self._clip_skip = request.clip_skip

    # -- what it can do by itself ------------------------------------------------------------------------------------

    @staticmethod
    def numpy_to_pil(images: np.ndarray) -> "list[Image.Image]":
        """PIL images of an `n h w 3` or `h w 3` array in [0, 1]."""
        from sfumato.images import to_pil

        rows = images[None] if images.ndim == 3 else images
        return [to_pil((row.clip(0, 1) * 255).round().astype(np.uint8)) for row in rows]

    @property
    def image_processor(self) -> "ImageProcessor":
        """What turns decoded pixels into pictures, for latents that the caller decodes."""
        from sfumato.pipeline.decoding import ImageProcessor

        return ImageProcessor()

    def set_progress_bar_config(self, **config: Any) -> None:
        """Options for the progress bar, as tqdm takes them: `disable=True`, `desc="…"`, `leave=False`."""
        self._progress = config

    def progress_bar(self, iterable: Iterable[Any] | int | None = None, total: float | None = None) -> Any:
        """A tqdm bar over an iterable, or for a number of steps, fit for the terminal or the notebook it is in."""
        from tqdm.auto import tqdm

        if isinstance(iterable, int):
            iterable, total = None, iterable
        if iterable is None and total is None:
            raise UsageError("a progress bar needs an iterable or total=…, the number of steps")
        return tqdm(iterable, total=total, **self._progress)
