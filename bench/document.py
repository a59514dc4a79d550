"""Puts what is generated into a document that people write, between two markers."""

from pathlib import Path

BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"


def with_generated(document: str, generated: str) -> str:
    """The document with what is between its markers replaced. Raises ValueError unless it has both, once, in order."""
    if document.count(BEGIN) != 1 or document.count(END) != 1 or document.index(BEGIN) > document.index(END):
        raise ValueError(f"the document must hold the lines {BEGIN} and {END}, once each and in this order")
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n{generated.strip()}\n{END}{rest.split(END)[1]}"


def write(path: Path, generated: str) -> None:
    """Replace what is generated in a file."""
    path.write_text(with_generated(path.read_text(encoding="utf-8"), generated), encoding="utf-8")
