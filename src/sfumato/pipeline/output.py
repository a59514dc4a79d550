"""What a pipeline call gives back."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.images import image_grid
from sfumato.recipe import Recipe


@dataclass(slots=True, eq=False)
class StableDiffusionPipelineOutput:
    """The pictures of one call, and everything that has to be said about them.

    `images` is a list of PIL images, or an array or tensor as `output_type` asked. `nsfw_content_detected` has one bool
    an image, or is None where no safety checker ran; `safety_scores` holds what each decision rests on, by name, likewise. `notes` are
    sentences for the person: words that did not fit, pictures that were blocked. `errors` maps the index of an image that failed, whose
    place in `images` is None, to its error. In a notebook the pictures show themselves.
    """

    images: Any
    nsfw_content_detected: list[bool] | None
    recipe_makers: Sequence[Callable[[], Recipe]] = ()
    notes: list[str] = field(default_factory=list)
    errors: dict[int, SfumatoError] = field(default_factory=dict)
    safety_scores: list[dict[str, float]] | None = None

    @property
    def recipes(self) -> list[Recipe]:
        """One Recipe an image, in their order."""
        return [make() for make in self.recipe_makers]

    def to_tuple(self) -> tuple[Any, list[bool] | None]:
        """`(images, nsfw_content_detected)`, what `return_dict=False` gives."""
        return self.images, self.nsfw_content_detected

    def keys(self) -> tuple[str, ...]:
        """The names by which `output["…"]` gives what diffusers' output holds."""
        return ("images", "nsfw_content_detected")

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def _repr_png_(self) -> bytes | None:
        pictures = [image for image in self.images if isinstance(image, Image.Image)]
        if not pictures:
            return None
        columns = min(len(pictures), 4)
        rows = -(-len(pictures) // columns)
        blanks: Sequence[Image.Image] = [Image.new("RGB", pictures[0].size, "white")] * (rows * columns - len(pictures))
        buffer = io.BytesIO()
        image_grid([*pictures, *blanks], rows, columns).save(buffer, format="PNG")
        return buffer.getvalue()
