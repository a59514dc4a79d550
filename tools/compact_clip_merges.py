"""Make `src/sfumato/text/clip_merges.txt.gz`, the vocabulary of OpenAI's CLIP, from the file that OpenAI published.

    python tools/compact_clip_merges.py path/to/bpe_simple_vocab_16e6.txt.gz

The published file (MIT licence, Copyright (c) 2021 OpenAI; it comes in the wheels of `clip-anytorch` and `open-clip-torch`) lists 262,144
byte-pair merges, of which CLIP uses the first 48,894: its vocabulary of 49,408 holds 256 bytes, the same 256 bytes ending a word,
one token a merge, and the start and end tokens. What is kept here is those merges, one a line in the published order, and nothing else:
the ids follow from the order. No time and no name go into the gzip header, so the same input makes the same bytes.
"""

import gzip
import hashlib
import io
import sys
from pathlib import Path

PUBLISHED_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
USED_MERGES = 49_408 - 2 * 256 - 2
TARGET = Path(__file__).parents[1] / "src" / "sfumato" / "text" / "clip_merges.txt.gz"


def compact(published: bytes) -> bytes:
    """The merges that CLIP uses, gzipped, from the bytes of the published file. Raises ValueError when it is another file."""
    found = hashlib.sha256(published).hexdigest()
    if found != PUBLISHED_SHA256:
        raise ValueError(f"not OpenAI's bpe_simple_vocab_16e6.txt.gz: sha256 {found}, expected {PUBLISHED_SHA256}")
    merges = gzip.decompress(published).decode("utf-8").split("\n")[1 : 1 + USED_MERGES]  # line 0 is the file's version
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(("\n".join(merges) + "\n").encode("utf-8"))
    return packed.getvalue()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    TARGET.write_bytes(compact(Path(sys.argv[1]).read_bytes()))
