"""From openly licensed drawings in packages to one file of captioned pixels.

`build` runs the stages in order, one function each: `fetch` (package by name and version, checksum verified) → `read_drawings` →
`render` → `captions_for` → `write_dataset`. `sources.py` says what is fetched and under which licence, `vocabulary.txt` which things are taught.
"""

from sfumato.training.data.build import build
from sfumato.training.data.pack import ArtDataset, Record, read_dataset

__all__ = ["ArtDataset", "Record", "build", "read_dataset"]
