"""The words of a prompt as people see them, and which of them a model was never taught."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches

from sfumato.text.cleaning import clean
from sfumato.text.vocabulary import WORD_END, clip_vocabulary

# Python's expressions know no Unicode categories, so words are found in a text's outline, one of these marks a character:
# w letter or digit, m what clings to the one before it, s symbol (emoji), h hyphen, a apostrophe, space for all that parts words.
WORDS = re.compile(r"w[wm]*(?:(?:h|a|ha|ah)w[wm]*)*|s[sm]*")
HYPHENS = "-‐‑"
APOSTROPHES = "'’"
JOINERS = "\u200c\u200d"
SKIN_TONES = range(0x1F3FB, 0x1F400)
TAGS = range(0xE0020, 0xE0080)
JOINED = re.compile(f"[{HYPHENS}{APOSTROPHES}]+")
# What the tokenizer sets apart as endings (see `tokenizer.WORDS`); no words of their own.
ENDING = re.compile(rf"(?<=\w)[{APOSTROPHES}](?:s|t|re|ve|m|ll|d)$")
# Words that look like a plural and are none.
NO_PLURALS = frozenset({"does", "news"})
LEAST_STEM = 3
"""Letters that are left of a plural: of fewer, too many are words by chance ("as", "is", "bus")."""
LEAST_SPELLED = 4
"""Letters of a word that is taken for another one misspelled."""
ALIKE, LONG_ALIKE, LONG = 0.8, 0.85, 9
"""Share of letters, by difflib's count, that a misspelled word has in common with what was meant: of "elefant" and "elephant".

More of a word of `LONG` letters, where a fifth is more than a slip: "artstation" is no "attraction".
"""


def words_in(text: str) -> list[str]:
    """The words of a text in its order, lower-cased: runs of letters and digits, held together by hyphens and apostrophes.

    Numbers and punctuation are left out, emoji are not: "2 T-shirts & a 3D 🚀!" is "t-shirts", "a", "3d", "🚀". The text is cleaned
    first, as the tokenizer cleans it. Scripts that put no space between words give one word for each run.
    """
    return [word for _, word in _placed(clean(text))]


def collect_words(texts: Iterable[str]) -> tuple[str, ...]:
    """Every word of some texts once, in the order of their code points: what a model that learned from them has seen."""
    return tuple(sorted({word for text in texts for word in words_in(text)}))


@dataclass(frozen=True, slots=True)
class KnownWords:
    """The words a model's captions were made of, and what can be said of others.

    A word is known when it is one of them, or when every part of it between hyphens and apostrophes is: "cat's" by "cat", "cat-dog" by
    "cat" and "dog", and "shirt" by "t-shirt". "cats" is not, by "cat": to a model that never read it, it is as strange as any other word.
    """

    words: frozenset[str]
    _whole: frozenset[str] = field(init=False, repr=False, compare=False)
    _by_letters: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = {part for word in self.words for part in _parts(word)}
        object.__setattr__(self, "_whole", self.words | parts)
        object.__setattr__(self, "_by_letters", {_letters(word): word for word in sorted(self.words, reverse=True)})

    def __contains__(self, word: str) -> bool:
        """Whether a word, as `words_in` gives it, is known."""
        return word in self._whole or self._whole.issuperset(_parts(word))

    def unknown_in(self, text: str, *, unread: str = "") -> list[str]:
        """The words of a text that are not known, each once, in its order.

        `unread` is the end of the cleaned text that found no room in the prompt (`Tokens.dropped`): words that lie in it are left out.
        """
        cleaned = clean(text)
        end = len(cleaned) - len(unread)
        return list(dict.fromkeys(word for place, word in _placed(cleaned) if place < end and word not in self))

    def meant_by(self, word: str) -> str | None:
        """The known word that an unknown one stands for, where that is certain: another spelling or number of it, or a slip.

        "pinata" is "piñata", "tshirt" is "t-shirt", "cats" is "cat", "blueberry" is "blueberries", "elefant" is "elephant". A slip keeps the first
        letter, is nearest to one known word only, and is no word of the many in CLIP's own vocabulary: whoever writes "fountain" does
        not mean "mountain".
        """
        if (same := self._by_letters.get(_letters(word))) is not None:
            return same
        for singular in _singulars(word):
            if singular in self.words:
                return singular
        for plural in (f"{word}s", f"{word}es", f"{word[:-1]}ies"):
            if plural in self.words and word in _singulars(plural):
                return plural
        if len(word) < LEAST_SPELLED or word + WORD_END in clip_vocabulary().ids:
            return None
        candidates = sorted(known for known in self.words if known[0] == word[0] and len(known) >= LEAST_SPELLED)
        nearest = get_close_matches(word, candidates, n=2, cutoff=LONG_ALIKE if len(word) >= LONG else ALIKE)
        likeness = [SequenceMatcher(None, known, word).ratio() for known in nearest]
        return nearest[0] if nearest and likeness[0] not in likeness[1:] else None

    def note_on(self, text: str, *, unread: str = "") -> str | None:
        """What to tell the person of a prompt's unknown words, in one line; None when all are known. `unread` as in `unknown_in`."""
        named = [
            word if (meant := self.meant_by(word)) is None else f"{word} ({meant}?)"
            for word in self.unknown_in(text, unread=unread)
        ]
        return f"unknown to this model: {', '.join(named)}" if named else None


def _placed(cleaned: str) -> Iterator[tuple[int, str]]:
    """Each word of a cleaned text with its place; numbers are none."""
    for match in WORDS.finditer("".join(map(_outline, cleaned))):
        word = cleaned[match.start() : match.end()]
        if match[0][0] == "s" or any(map(str.isalpha, word)):
            yield match.start(), word


def _outline(character: str) -> str:
    """The mark that stands for a character in WORDS."""
    if character.isalnum():
        return "w"
    if character in HYPHENS:
        return "h"
    if character in APOSTROPHES:
        return "a"
    category = unicodedata.category(character)
    # Accents and vowel signs; and what Unicode counts as formats and as modifiers, as it does ^, but belongs to a word or an emoji.
    if category[0] == "M" or character in JOINERS or ord(character) in TAGS or ord(character) in SKIN_TONES:
        return "m"
    return "s" if category == "So" else " "


def _parts(word: str) -> list[str]:
    """What a word is joined from, without numbers and English endings: "t" and "shirt" of "t-shirt's"; a plain word is its own part."""
    return [part for part in JOINED.split(ENDING.sub("", word)) if not part.isnumeric()]


def _singulars(word: str) -> Iterator[str]:
    """What a word would be the plural of, by the rules of English spelling: "cherry" of "cherries", "box" of "boxes", "cat" of "cats"."""
    if word in NO_PLURALS or not word.endswith("s"):
        return
    stem = word[:-1]
    hisses = ("s", "x", "z", "ch", "sh")
    if len(stem) >= LEAST_STEM and not stem.endswith(hisses):
        yield stem
    if word.endswith("es") and len(word) - 2 >= LEAST_STEM and word[:-2].endswith((*hisses, "o")):
        yield word[:-2]
    if word.endswith("ies") and len(word) - 3 >= LEAST_STEM - 1:
        yield word[:-3] + "y"


def _letters(word: str) -> str:
    """A word without accents, hyphens and apostrophes."""
    letters = unicodedata.normalize("NFKD", JOINED.sub("", word))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
