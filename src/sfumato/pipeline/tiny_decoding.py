"""A tiny autoencoder that decodes in the place of a model's own: pictures and previews at a twentieth of the work, a little coarser."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sfumato.errors import ConfigError, MissingFileError, RecipeError

if TYPE_CHECKING:
    from sfumato.models.tiny_vae import TinyAutoencoder
    from sfumato.models.vae import AutoencoderKL
    from sfumato.recipe import Recipe

RECORDED = "vae_tiny"
"""Its name among what a recipe says was spared."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TinyDecoder:
    """The network, and its file's name and hash, as recipes record them."""

    network: "TinyAutoencoder"
    file: str
    sha256: str

    def recorded(self) -> dict[str, Any]:
        """What a recipe says of it."""
        return {RECORDED: {"file": self.file, "sha256": self.sha256}}


class TinyDecoding:
    """`load_tiny_vae` and `unload_tiny_vae`. Mixed into the pipeline, which owns the parts."""

    vae: "AutoencoderKL"
    _tiny: TinyDecoder | None = None

    def load_tiny_vae(self, path: str | os.PathLike[str]) -> None:
        """Decode by the tiny autoencoder in a file from now on: TAESD's decoder, or diffusers' AutoencoderTiny. Pictures are encoded as before.

        Raises MissingFileError, or ConfigError for a file that holds none, or one for other latents than the model's.
        """
        from sfumato.checkpoints.tiny_layout import open_tiny_files
        from sfumato.checkpoints.weights import sha256 as sha256_of

        file = Path(path).expanduser()
        if not file.is_file():
            raise MissingFileError(
                f"there is no file {os.fspath(path)!r}; give TAESD's decoder, or that of its kin for this model"
            )
        network = open_tiny_files(file, dtype=self.vae.dtype).requires_grad_(False)
        theirs, own = ((each.config.latent_channels, each.scale) for each in (network, self.vae))
        if theirs != own:
            raise ConfigError(
                f"{file.name} decodes latents of {theirs[0]} channels to {theirs[1]} pixels each, and this model's have {own[0]} for {own[1]}; "
                "give one that was made for the model"
            )
        self._tiny = TinyDecoder(network=network, file=file.name, sha256=sha256_of([file]))

    def unload_tiny_vae(self) -> None:
        """Decode by the model's own autoencoder again."""
        self._tiny = None

    def _decodes(self) -> "AutoencoderKL":
        """The network that decodes, where the model's own is and in its dtype."""
        if self._tiny is None:
            return self.vae
        return cast("AutoencoderKL", self._tiny.network.to(self.vae.device, self.vae.dtype))

    def _tiny_of(self, recipe: "Recipe") -> TinyDecoder | None:
        """The tiny autoencoder that a recipe names; None where it names none. Raises RecipeError for one that is not loaded."""
        record = recipe.fast.get(RECORDED)
        if record is None:
            return None
        said = cast("Mapping[str, Any]", record) if isinstance(record, Mapping) else {}
        if self._tiny is None or self._tiny.sha256 != said.get("sha256"):
            other = "another is loaded" if self._tiny is not None else "it is not loaded"
            raise RecipeError(
                f"the picture was decoded by {said.get('file')!r} (sha256 {str(said.get('sha256'))[:10]}), and {other}; load that one first: "
                "load_tiny_vae(…)"
            )
        return self._tiny
