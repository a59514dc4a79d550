"""What happens to a prompt before it is read: styles around it, and wildcards drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import OptionError

if TYPE_CHECKING:
    # At run time imported where they are used: --help need not wait for a tokenizer.
    from sfumato.recipe import Emphasis
    from sfumato.text.prompts import Style

STYLES = Path("styles.csv")
EMPHASIS_HELP = (
    "In whose words prompts are written: a1111, a1111_no_norm, comfy, compel, or none: plain, as diffusers reads them."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Worded:
    """The styles that go around prompts, and the lists that their wildcards are drawn from; no wildcards where there is no such word."""

    names: tuple[str, ...] = ()
    styles: "Mapping[str, Style]" = field(default_factory=dict)
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    drawn: bool = True

    @classmethod
    def of(
        cls, emphasis: "Emphasis", names: Sequence[str] | None, styles: Path | None, wildcards: Path | None
    ) -> "Worded":
        """From what was asked for. Raises MissingFileError or CorruptFileError for files that can't be read, OptionError for what has no effect."""
        from sfumato.text.prompts import A1111, read_lists, read_styles

        drawn = emphasis in A1111
        if wildcards is not None and not drawn:
            raise OptionError(f"--wildcards has no effect with --emphasis {emphasis}; leave one of them out")
        if styles is not None and not names:
            raise OptionError("--styles names a table and no --style of it; add --style NAME")
        return cls(
            names=tuple(names or ()),
            styles=read_styles(styles or STYLES) if names else {},
            lists={} if wildcards is None else read_lists(wildcards),
            drawn=drawn,
        )

    def prompt(self, text: str, seed: int) -> str:
        """The prompt of one picture. Raises UnknownNameError for a style that is not in the table."""
        from sfumato.text.prompts import apply_styles, expand_wildcards

        styled, _ = apply_styles(text, "", self.names, self.styles)
        return expand_wildcards(styled, seed, self.lists) if self.drawn else styled

    def negative(self, text: str | None) -> str | None:
        """The negative prompt of all pictures: with its styles; wildcards are for prompts."""
        from sfumato.text.prompts import apply_styles

        _, styled = apply_styles("", text or "", self.names, self.styles)
        return styled or text
