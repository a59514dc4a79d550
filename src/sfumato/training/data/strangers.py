"""Words that nobody taught, set among those of a caption: a model that has met such words reads them as nothing.

One that has not takes them for something it knows, most of all for how many there are: "my favourite rocket" drew four.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sfumato.text.vocabulary import WORD_END, clip_vocabulary
from sfumato.text.words import KnownWords, collect_words

# What people put into any prompt, whether or not it is also a keyword of some thing; none of it is in the wordings that only the evaluation has.
_FILLERS = """
your his her our their its this that these those is are was be been being has have had do does did will can could should may might must you
he she we they me him us them who which when where why how if then than because while though but or nor not yet so as such very really quite
rather too also only even still ever never always often again soon now today maybe perhaps almost exactly please thanks hello hey let need
needs love loves hope think see seen looking depict depicts depicting feature features featuring contain contains containing called named
known made done drawn painted rendered created generated designed kind sort type bit thing something anything everything example version
copy idea scene shot view high highly best better good great perfect amazing awesome stunning gorgeous pretty fine fancy cool epic detailed
detail details quality resolution sharp clean crisp clear smooth soft realistic photorealistic hyperrealistic modern minimal minimalist
digital vector artwork artist artistic design graphics professional masterpiece trending artstation award winning unreal engine octane
render rendering cinematic lighting dramatic studio ultra hd uhd 4k 8k hdr wallpaper stock image illustration picture photo photograph
camera closeup front centered transparent whole full entire complete normal regular typical usual ordinary common famous popular special
unique strange weird crazy silly running flying dancing jumping sitting standing waiting young ancient rusty shiny dirty wooden magical
mysterious friendly for about from into onto around near after before during until since without within through across along between among
"""
# Colours, numbers, places and sizes that captions have no word for: they say something, and are not to be read as nothing.
_SAY_SOMETHING = """
amber aqua aquamarine azure beige bronze burgundy charcoal copper coral cream crimson emerald fuchsia gold golden indigo ivory jade khaki
lavender lemon lilac lime magenta maroon mauve mint mustard navy ochre olive peach platinum plum rose ruby rust saffron salmon scarlet sepia
silver tan taupe terracotta turquoise vermilion violet colored coloured colorful colourful rainbow monochrome pastel zero six seven eight nine
ten eleven twelve twenty hundred thousand many few both dozen dozens double triple pair pairs couple crowd group bunch lots plenty several
multiple numerous inside outside beyond behind beneath underneath below above over under next beside opposite left right center centre
middle corner edge upper lower upside sideways diagonal giant gigantic enormous massive miniature mini micro mega wide narrow tall short
thick thin
"""
# Share of strange words that are fillers; the others are from CLIP's vocabulary.
_FILLING = 0.5
# Where a word may be put without parting a name: at the beginning or after its article, before a comma, at the end.
_GAP = re.compile(r"\A|(?<=\Aa )|(?<=\Aan )|(?<=\Athe )|(?=,)|\Z")
_HOW_MANY = (1, 1, 2, 3)
_LEAST_LETTERS = 3


@dataclass(frozen=True, slots=True)
class Strangers:
    """Words that say nothing to a model: `fillers`, of which it may have read some as keywords, and `others`, which it never read."""

    fillers: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def to(cls, words: Iterable[str], names: Iterable[str]) -> "Strangers":
        """Those for a model whose captions are made of these words and names.

        The others are the words of CLIP's vocabulary that are none of the captions', nor the plural of one, and no colour, number or place; what
        is in a name is no filler.
        """
        known, named = KnownWords(frozenset(collect_words(words))), frozenset(collect_words(names))
        barred = frozenset(_SAY_SOMETHING.split())
        whole = (token.removesuffix(WORD_END) for token in clip_vocabulary().ids if token.endswith(WORD_END))
        able = (
            word
            for word in whole
            if len(word) >= _LEAST_LETTERS and word.isascii() and word.isalpha() and word not in barred
        )
        return cls(
            fillers=tuple(word for word in _FILLERS.split() if word not in named),
            others=tuple(sorted(word for word in able if word not in known and known.meant_by(word) is None)),
        )

    def among(self, text: str, rng: random.Random) -> str:
        """A caption with one to three such words in it. It says what it said."""
        for _ in range(rng.choice(_HOW_MANY)):
            place = rng.choice([gap.start() for gap in _GAP.finditer(text)])
            before, after = text[:place].rstrip(), text[place:]
            word = rng.choice(self.fillers if rng.random() < _FILLING else self.others)
            text = f"{before} {word}{after}" if after.startswith(",") else f"{before} {word} {after.lstrip()}"
            text = text.strip()
        return text
