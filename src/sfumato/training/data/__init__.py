"""From openly licensed drawings in packages to one dataset of named art with its transparency.

`build` runs the stages in order, one function each: `fetch` (package by name and version, checksum verified) → `gather` (which drawings
count, and what they show) → `render` → `encode` → `write_pictures`. `sources.py` says what is fetched and under which licence,
`drawings.txt` what drawings show that don't say it, `vocabulary.txt` and `synonyms.txt` which things are taught by which names.
"""

from sfumato.training.data.build import build
from sfumato.training.data.pack import ArtDataset, Record, read_dataset

__all__ = ["ArtDataset", "Record", "build", "read_dataset"]
