"""How often the filter that comes with Sfumato takes a harmless picture for an unsafe one.

It judges pictures that the bundled model draws, of random things on its list, and every picture in the folders that are named (what is
transparent is white), and prints how many would be flagged at each threshold, and the highest scores. All of them are harmless, so each one
flagged is a mistake. Nothing is downloaded. Photographs lie in packages: see docs/safety.md.

    python bench/safety_false_positives.py --count 300 --photos /usr/share/backgrounds
"""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from sfumato import NSFWFilter, StableDiffusionPipeline, bundled_model

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

Judged = list[tuple[str, dict[str, float]]]


def drawn(count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures of the bundled model with their prompts: the same ones each time."""
    pipe = StableDiffusionPipeline.from_pretrained(bundled_model())
    pipe.set_progress_bar_config(disable=True)
    choose = random.Random(0)
    for seed in range(count):
        thing = choose.choice(pipe.card.vocabulary)
        prompt = f"{thing}, {choose.choice(pipe.card.styles)} style" if pipe.card.styles else thing
        yield prompt, np.asarray(pipe(prompt, seeds=[seed]).images[0])


def photos(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The pictures in a folder and those below it, on white."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
            with Image.open(path) as image:
                rgba = image.convert("RGBA")
            page = Image.new("RGBA", rgba.size, "white")
            yield path.name, np.asarray(Image.alpha_composite(page, rgba).convert("RGB"))


def row(name: str, judged: Judged) -> str:
    """A line of the table."""
    counts = (sum(scores["nsfw"] >= threshold for _, scores in judged) for threshold in THRESHOLDS)
    return f"| {name} | {len(judged)} | {' | '.join(map(str, counts))} |"


def main() -> None:
    """Judge everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="pictures of the bundled model")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], metavar="FOLDER", help="folders of pictures")
    parser.add_argument("--highest", type=int, default=5, help="how many of the highest scores to tell of each set")
    arguments = parser.parse_args()
    judge = NSFWFilter()
    sets = {"bundled model": drawn(arguments.count)} if arguments.count else {}
    sets |= {folder.name: photos(folder) for folder in arguments.photos}
    results: dict[str, Judged] = {}
    seconds = 0.0
    for name, pictures in sets.items():
        results[name] = []
        for label, picture in pictures:
            start = time.process_time()
            results[name].append((label, judge.scores(picture)))
            seconds += time.process_time() - start
    print(f"| pictures | number | {' | '.join(f'≥ {threshold}' for threshold in THRESHOLDS)} |")
    print(f"|{'---|' * (2 + len(THRESHOLDS))}")
    for name, judged in results.items():
        print(row(name, judged))
    print(f"\n{1000 * seconds / max(1, sum(map(len, results.values()))):.0f} ms of processor time a picture\n")
    for name, judged in results.items():
        for label, scores in sorted(judged, key=lambda pair: -pair[1]["nsfw"])[: arguments.highest]:
            kinds = ", ".join(f"{kind} {score:.2f}" for kind, score in scores.items() if kind != "nsfw")
            print(f"{scores['nsfw']:.3f}  {name}: {label} ({kinds})")


if __name__ == "__main__":
    main()
