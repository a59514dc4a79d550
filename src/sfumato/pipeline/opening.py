"""Opening and saving a pipeline, under the names and habits of diffusers."""

import logging
import os
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from sfumato.errors import MissingFileError, UnsupportedError, UsageError
from sfumato.pipeline.face import Face
from sfumato.pipeline.sparing import as_stored

if TYPE_CHECKING:
    from sfumato.adapters.loaded import LoadedAdapters
    from sfumato.engine.memory import Budget
    from sfumato.pipeline.loading import Kept, Opened
    from sfumato.variants import Family, Make

logger = logging.getLogger("sfumato")


class Opening(Face):
    """`from_pretrained`, `from_single_file`, `save_pretrained` and `to`. Mixed into the pipeline, which owns the parts."""

    _adapters: "LoadedAdapters"
    _kept: "Kept"
    memory: "Budget | None"

    _makes: "ClassVar[tuple[Make, ...]]" = ()
    """The makes of U-Net that the class is for."""

    _others: ClassVar[tuple[str, ...]] = ()
    """Classes made of this one, for other makes, by their names in `sfumato.pipeline`: loaded for a model that this one is not for."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """Open a model folder in the diffusers layout, a model of the hub by its id, or a model file.

        Options: `torch_dtype` or `dtype` ("auto" keeps the file's), `revision`, `variant`, `token` or `use_auth_token`,
        `local_files_only`, `cache_dir`, and any part to use instead of the folder's: `unet`, `vae`, `text_encoder`,
        `tokenizer`, `scheduler`, `feature_extractor`, `safety_checker` (None: off), and of SDXL `text_encoder_2` and `tokenizer_2`.
        Float32 unless told otherwise.

        `safety` is what becomes of pictures that look unsafe: "off" (nobody looks), "block", "blur" or "flag" (it is only said). The model's
        own safety checker judges, where it has none the filter that comes with Sfumato, from `safety_threshold` (0.5) on. Unset, a
        model's own checker blocks, and a model without one has none, as in diffusers.

        `memory` is the most anonymous memory that the process may have on a CPU: "2GB", "600MB", a number of bytes, or "min" for as little
        as possible. Without it, weights of a gigabyte or more that their file has in half precision stay in the file, and are widened
        layer by layer.

        The family of the model decides on the class: one of SDXL is a StableDiffusionXLPipeline.
        Raises CheckpointError for a model that can't be opened, UnsupportedError for an option that is not honoured.
        """
        from sfumato.pipeline.loading import open_parts

        return cls._of(open_parts(pretrained_model_name_or_path, options), pretrained_model_name_or_path)

    @classmethod
    def from_single_file(cls, pretrained_model_link_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """Open a model in one file: `.safetensors`, or a pickled `.ckpt`, `.pt` or `.bin`. The network is not touched.

        Options are those of `from_pretrained`, and: `family`, `prediction_type`, `original_config` (a training config, a .yaml) and
        `config` (a folder in the diffusers layout, whose configs fit) for what no tensor says; `extract_ema` takes the average over training.
        Raises CheckpointError for a file that can't be opened or lacks a part, UsageError for an option that can't be honoured.
        """
        from sfumato.pipeline.loading import is_file, open_parts

        name = os.fspath(pretrained_model_link_or_path)
        if "://" in name:
            raise UnsupportedError(f"{name!r} is an address; download the file, and give its path on this machine")
        if Path(name).expanduser().is_dir():
            raise UsageError(f"{name!r} is a folder; from_pretrained({name!r}) opens it")
        if not is_file(name):
            raise MissingFileError(f"there is no file {name!r}; give the path of a model on this machine")
        return cls._of(open_parts(name, options), name)

    @classmethod
    def from_pipe(cls, pipeline: "Opening", **parts: Any) -> Self:
        """The model of another pipeline, drawing in this class's way. They share the parts, and the adapters that are loaded; `parts` replace some.

        Raises UsageError for a model that is none for this class.
        """
        kind = cls._kind_for(pipeline.family, pipeline.source.origin.name)
        shared = copy(pipeline)
        object.__setattr__(shared, "__class__", kind)
        assert isinstance(shared, kind)
        for name, part in parts.items():
            if name not in shared.components:
                raise UsageError(f"{kind.__name__} has no part {name!r}; it has {', '.join(shared.components)}")
            setattr(shared, name, part)
        return shared

    @classmethod
    def _of(cls, opened: "Opened", name: str | os.PathLike[str]) -> Self:
        kind = cls._kind_for(opened.family, name)
        pipe = kind(**kind._arguments(opened))
        pipe.card, pipe.defaults, pipe.source = opened.card, opened.card.defaults, opened.source
        pipe._kept, pipe.memory = opened.kept, opened.memory
        pipe._came_with = (opened.family.prediction, opened.family.scheduler.get("timestep_spacing"))
        pipe.source.note_cast(pipe.dtype)
        return pipe

    @classmethod
    def _kind_for(cls, family: "Family", name: str | os.PathLike[str]) -> type[Self]:
        """The class that draws with models of a family: this one, or one that is made of it. Raises UsageError for neither."""
        if family.make in cls._makes:
            return cls
        for other in cls._others:
            kind = getattr(import_module("sfumato.pipeline"), other)
            if family.make in kind._makes and issubclass(kind, cls):
                return kind
        raise UsageError(
            f"{os.fspath(name)} is a model of {family.title}, which is none for {cls.__name__}; "
            "StableDiffusionPipeline opens every family"
        )

    @classmethod
    def _arguments(cls, opened: "Opened") -> dict[str, Any]:
        """The constructor's arguments. Raises UsageError for a part that the family has not."""
        second = ("text_encoder_2", "tokenizer_2")
        if extra := [part for part in second if opened.parts.get(part) is not None]:
            raise UsageError(f"models of {opened.family.title} have no {extra[0]}; leave it out")
        return {name: part for name, part in opened.parts.items() if name not in second}

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        variant: str | None = None,
        *,
        overwrite: bool = True,
        **options: Any,
    ) -> None:
        """Write the model as a folder in the diffusers layout, which diffusers opens too, and its card beside it.

        A folder that holds a model and nothing else is replaced, whole or not at all, unless `overwrite` is off.
        Raises OutputError, or UnsupportedError for an option that is not honoured.
        """
        from sfumato.checkpoints import Card
        from sfumato.pipeline.loading import save_parts

        options["safe_serialization"] = safe_serialization
        if (beside := self._adapters.active()).weighted:
            names = ", ".join(one.adapter.name for one in beside.weighted)
            logger.warning(
                "the model is saved without the adapters that run beside it (%s); fuse_lora() merges them", names
            )
        # What was said of the model that was opened need not be true of a changed one; how to draw with it is.
        card = (self.card if self._is_as_opened() else Card()).with_defaults(self.defaults)
        save_parts(
            self.components, card, Path(save_directory), kept=self._kept.with_options(self._options()),
            variant=variant, overwrite=overwrite, options=options,
        )  # fmt: skip

    def to(self, *where: str | torch.device | torch.dtype, **named: Any) -> Self:
        """Move to a device, a dtype or both, in any order: `.to("cuda")`, `.to("cuda", torch.float16)`. Returns self."""
        from sfumato.pipeline.placement import parse_target

        device, dtype = parse_target(*where, **named)
        self.source.note_cast(self.dtype)
        for part in self._networks().values():
            if dtype is not None:
                as_stored(part)
            part.to(device=device, dtype=dtype)
        if dtype is not None:
            self._adapters.cast(dtype)
        self.source.note_cast(self.dtype)
        return self
