"""How long prompts take to read, at sizes and in shapes that nobody types; and whether any of a million strings can't be.

`python bench/prompts.py` times a megabyte of words and 100,000 brackets in many shapes: the tree, the spans of every mode, and wildcards, each in
milliseconds of processor time, the best of so many runs. `python bench/prompts.py --fuzz 1000000` reads as many random strings in
every mode, for a run of random length, and counts those that raise.
"""

import argparse
import random
import time
from collections.abc import Callable

from sfumato.text.prompts import Emphasis, expand_wildcards, parse_prompt, read_spans

BRACKETS = 100_000
SHAPES = {
    "1 MB of words": "a red apple, on a table " * 43_691,
    "1 MB, all emphasised": "(a red apple:1.2), on a [wooden] table " * 26_214,
    "(((…": "(" * BRACKETS,
    "[[[…": "[" * BRACKETS,
    ")))…": ")" * BRACKETS,
    "((…a…))": "(" * (BRACKETS // 2) + "a" + ")" * (BRACKETS // 2),
    "(a)(a)…": "(a)" * (BRACKETS // 2),
    "(a:1.1)…": "(a:1.1)" * (BRACKETS // 2),
    "([)]([)]…|": "([)]" * (BRACKETS // 4) + "|",
    "[a:[a:…:1]:1]": "[a:" * (BRACKETS // 2) + ":1]" * (BRACKETS // 2),
    "[a|b][a|b]…": "[a|b]" * (BRACKETS // 2),
    "[a:b:1]…": "[a:b:1]" * (BRACKETS // 2),
    "[a:b:0]…[a:b:49999]": "".join(f"[a{i}:b:{i}]" for i in range(BRACKETS // 2)),
    "(a:1.0)…(a:1.49999)": "".join(f"(a{i}:1.{i})" for i in range(BRACKETS // 2)),
    "(a [b] c)…": "(a [b] c)" * (BRACKETS // 4),
    "(a)++(a)++…": "(a)++" * (BRACKETS // 2),
    "1 MB of a++": "a++ " * 262_144,
    "1 MB of <lora:x:1>": "<lora:x:1>" * 104_857,
    "1 MB of BREAK": "BREAK " * 174_762,
    "1 MB of escapes": "\\(" * 524_288,
    "1 MB of <lora:": "<lora:" * 174_763,
    "1 MB of AND": "AND " * 262_144,
    "1 MB of spaces and colons": " :" * 524_288,
    "1 MB of [ : : : …]": "[" + " :" * 524_287 + "]",
    "1 MB of backslashes": "\\" * 1_048_576,
}
WILDCARDS = {
    "{a|b}{a|b}…": "{a|b}" * (BRACKETS // 2),
    "{a|{a|…}}": "{a|" * (BRACKETS // 2) + "}" * (BRACKETS // 2),
    "{{{…": "{" * BRACKETS,
    "1 MB of __a__": "__a__" * 209_715,
    "1 MB of words_and_bars": "words_and_bars " * 69_905,
}
MODES: tuple[Emphasis, ...] = ("a1111", "comfy", "compel")
WORDS = ["(", ")", "[", "]", ":", "|", "\\", "{", "}", "__", "$$", "<", ">", "<lora:x", "BREAK", "AND", " ", "\n", ",", "+", "-", '"',
         ".5", "3", "1.2)", ":2", "::", "a", "red cat", "é", "🚀", "\u202e", "\0", "\ud800", "embedding:x"]  # fmt: skip


def best(work: Callable[[], object], runs: int) -> float:
    """Milliseconds of processor time, the least of some runs."""
    times: list[float] = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def measure(runs: int) -> None:
    print(f"{'':<28}{'letters':>9}{'tree':>8}" + "".join(f"{mode:>9}" for mode in MODES) + "   ms")
    for name, text in SHAPES.items():
        row = [best(lambda text=text: parse_prompt(text), runs)]
        row += [best(lambda text=text, mode=mode: read_spans(text, mode), runs) for mode in MODES]
        print(f"{name:<28}{len(text):>9}{row[0]:>8.1f}" + "".join(f"{each:>9.1f}" for each in row[1:]))
    for name, text in WILDCARDS.items():
        drawn = best(lambda text=text: expand_wildcards(text, 1, {"a": ["red", "green"]}), runs)
        print(f"{name:<28}{len(text):>9}{drawn:>8.1f}   expand_wildcards")


def fuzz(count: int, seed: int) -> None:
    chance = random.Random(seed)
    failures = 0
    for number in range(count):
        text = "".join(chance.choices(WORDS, k=chance.randrange(24)))
        if number % 4 == 0:
            text = "".join(map(chr, (chance.randrange(0x250) for _ in range(chance.randrange(24)))))
        steps = chance.randrange(1, 12)
        try:
            prompt = parse_prompt(expand_wildcards(text, number, {"a": [text]}))
            for mode in MODES:
                for _, texts in prompt.schedule(steps):
                    for each in texts:
                        read_spans(each, mode)
        except Exception as error:
            failures += 1
            print(f"{text!r}: {error!r}")
    print(f"{count:,} strings of seed {seed}: {failures} raised")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--fuzz", type=int, metavar="STRINGS", help="read so many random strings instead")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.fuzz is None:
        measure(arguments.runs)
    else:
        fuzz(arguments.fuzz, arguments.seed)


if __name__ == "__main__":
    main()
