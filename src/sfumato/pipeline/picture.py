"""A PIL image that knows its recipe and writes it into every file it is saved to."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import IO, Any

from PIL import Image

from sfumato.images import embedding
from sfumato.recipe import Recipe


class Picture(Image.Image):
    """What `pipe(…).images` holds: a PIL image whose `save` carries the recipe along.

    Everything done to it (resize, crop …) gives a plain PIL image without one, since the recipe no longer makes that.
    """

    _make_recipe: Callable[[], Recipe]

    @classmethod
    def of(cls, image: Image.Image, make_recipe: Callable[[], Recipe]) -> "Picture":
        """The image itself, from now on a Picture. `make_recipe` is called when the recipe is first needed."""
        image.__class__ = cls
        assert isinstance(image, cls)
        image._make_recipe = make_recipe
        return image

    @property
    def recipe(self) -> Recipe:
        """Everything that determined this image."""
        return self._make_recipe()

    def save(
        self,
        fp: str | bytes | PathLike[str] | PathLike[bytes] | IO[bytes],
        format: str | None = None,  # noqa: A002 - PIL's name
        **params: Any,
    ) -> None:
        """PIL's save, with the recipe written into the file where its format has a place for it (PNG, JPEG, WebP)."""
        if format is None and isinstance(fp, str | PathLike):
            format = Image.registered_extensions().get(Path(str(fp)).suffix.lower())  # noqa: A001
        super().save(fp, format, **(embedding(self.recipe, format or "") | params))
