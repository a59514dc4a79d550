"""What notebooks read from a pipeline beside calling it, under the names they know."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.adapters import ActiveAdapters
from sfumato.checkpoints import Card
from sfumato.errors import UnsupportedError, UsageError
from sfumato.images import to_pil
from sfumato.models.clip_text import CLIPTextEncoder
from sfumato.models.unet import UNet
from sfumato.models.vae import AutoencoderKL
from sfumato.pipeline.absent import refuse
from sfumato.pipeline.conditioning import encode_prompt
from sfumato.pipeline.decoding import ImageProcessor
from sfumato.pipeline.parts import as_part
from sfumato.pipeline.request import Request
from sfumato.pipeline.source import Source
from sfumato.recipe import SafetyMode
from sfumato.schedulers import Scheduler
from sfumato.text.tokenizer import Tokenizer
from sfumato.text.words import KnownWords


class PipelineConfig(dict[str, Any]):
    """What a pipeline is made of, for reading: `config["unet"]` or `config.requires_safety_checker`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the pipeline's config has no {name!r}; it has {', '.join(self)}") from None


class Face:
    """Mixed into the pipeline, which owns the parts. Parts are checked, and converted where they can be, as they are put in."""

    unet: UNet
    vae: AutoencoderKL
    text_encoder: CLIPTextEncoder
    tokenizer: Tokenizer
    requires_safety_checker: bool
    scheduler: Scheduler
    safety_checker: Any
    safety_mode: SafetyMode
    feature_extractor: Mapping[str, Any] | None
    card: Card
    source: Source
    _active_adapters: Callable[..., ActiveAdapters]
    _is_adapted: Callable[[], bool]
    _progress: dict[str, Any]
    _interrupt: bool = False
    _num_timesteps: int = 0
    _guidance_scale: float = 7.5
    _clip_skip: int | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, as_part(name, value))

    # Hidden from type checkers, so that they go on telling a slip of the pen.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            refuse(name)

    @classmethod
    def from_single_file(cls, pretrained_model_link_or_path: str | os.PathLike[str], **_: Any) -> NoReturn:
        """Not available yet: raises UnsupportedError."""
        raise UnsupportedError(
            f"single files such as {os.fspath(pretrained_model_link_or_path)!r} can't be opened yet; "
            "from_pretrained opens folders in the diffusers layout, and models of the hub"
        )

    # -- what it is made of ------------------------------------------------------------------------------------------

    def _networks(self) -> dict[str, torch.nn.Module]:
        networks: dict[str, torch.nn.Module] = {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder}
        if isinstance(self.safety_checker, torch.nn.Module):
            networks["safety_checker"] = self.safety_checker
        return networks

    @property
    def components(self) -> dict[str, Any]:
        """Every part by name, as the constructor takes them."""
        others = {
            "tokenizer": self.tokenizer,
            "scheduler": self.scheduler,
            "safety_checker": self.safety_checker,
            "feature_extractor": self.feature_extractor,
        }
        return self._networks() | others

    def _is_as_opened(self) -> bool:
        """Whether what understands a prompt is still what was opened, so that the model's card is true of it."""
        return not self.source.changed(unet=self.unet, text_encoder=self.text_encoder) and not self._is_adapted()

    def _known_words(self, adapters: ActiveAdapters) -> KnownWords | None:
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
        return PipelineConfig(options | parts)

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
        """Whether the running or last call is guided."""
        return self._guidance_scale > 1

    @property
    def clip_skip(self) -> int | None:
        """Layers that the running or last call leaves out of the text encoder."""
        return self._clip_skip

    def _begin(self, request: Request) -> None:
        """Note what the callbacks of a call may ask of the pipeline."""
        self._num_timesteps = request.steps
        self._guidance_scale = request.guidance_scale
        self._clip_skip = request.clip_skip

    # -- what it can do by itself ------------------------------------------------------------------------------------

    def encode_prompt(
        self,
        prompt: str | list[str] | None,
        device: torch.device | str | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The embeddings of prompts and of negative prompts, `b tokens dim` each, as a call takes them.

        One row for each image, those of a prompt together; without guidance the second is None.
        Raises PromptError or OptionError for what can't be encoded.
        """
        adapters = self._active_adapters(None if lora_scale is None else {"scale": lora_scale}, None)
        return encode_prompt(
            self.tokenizer, self.text_encoder, self._known_words(adapters), adapters, prompt, negative_prompt, prompt_embeds,
            negative_prompt_embeds, images=num_images_per_prompt, guided=do_classifier_free_guidance, clip_skip=clip_skip,
            device=self.device if device is None else device,
        )  # fmt: skip

    @staticmethod
    def numpy_to_pil(images: np.ndarray) -> list[Image.Image]:
        """PIL images of an `n h w 3` or `h w 3` array in [0, 1]."""
        rows = images[None] if images.ndim == 3 else images
        return [to_pil((row.clip(0, 1) * 255).round().astype(np.uint8)) for row in rows]

    @property
    def image_processor(self) -> ImageProcessor:
        """What turns decoded pixels into pictures, for latents that the caller decodes."""
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
