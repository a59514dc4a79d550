"""A PIL image that knows its recipe and writes it into every file it is saved to."""

import os
from collections.abc import Callable
from functools import partial
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
        if format is None:
            # As PIL itself decides: by the suffix of the path, or of an open file's name.
            name = getattr(fp, "name", fp)
            suffix = Path(os.fsdecode(name)).suffix if isinstance(name, str | bytes | PathLike) else ""
            format = Image.registered_extensions().get(suffix.lower())  # noqa: A001
        super().save(fp, format, **(embedding(self.recipe, format or "") | params))

    def __getstate__(self) -> list[Any]:
        return [super().__getstate__(), self.recipe.to_json()]

    def __setstate__(self, state: list[Any]) -> None:
        image, recipe = state
        super().__setstate__(image)
        self._make_recipe = partial(Recipe.from_json, recipe)
