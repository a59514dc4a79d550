"""What is on a sheet, whatever it is drawn as."""

from dataclasses import dataclass

from PIL import Image

from sfumato.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cell:
    """A picture with its recipe, or why there is none."""

    image: Image.Image | None = None
    recipe: Recipe | None = None
    failure: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Page:
    """Cells row by row. `columns` and `rows` are their labels, empty where there is but one without a name; `heading` is the page's own."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        assert len(self.cells) == len(self.rows), "a label a row"
        assert all(len(row) == len(self.columns) for row in self.cells), "a label a column"

    @property
    def all(self) -> list[Cell]:
        """The cells one after the other."""
        return [cell for row in self.cells for cell in row]

    @property
    def recipes(self) -> list[Recipe]:
        """Those of the cells that have one."""
        return [cell.recipe for cell in self.all if cell.recipe is not None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sheet:
    """Pages under one title: `caption` is what all pictures share, `x` and `y` say what varies along the sides, "" for nothing."""

    title: str
    caption: str
    x: str
    y: str
    pages: tuple[Page, ...]
