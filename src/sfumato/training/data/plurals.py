"""Names of things in the plural: "penguins", "slices of pizza", "faces with sunglasses"."""

import re

# What follows belongs to the name and stays as it is: "slice of pizza", "cat with tears of joy", "face savoring food".
_MORE_OF_A_NAME = re.compile(
    r" (?:of|with|without|in|on|at|for|from|by|over|under|behind|and)\b.*|(?<=face) \w+ing\b.*"
)
STUFFS = frozenset({
    "beer", "bread", "broccoli", "confetti", "corn", "earth", "fire", "garlic", "honey", "lightning", "money", "poop", "popcorn",
    "saturn", "spaghetti", "sushi", "tennis",
})  # fmt: skip
"""Last words of names that take no article though they don't end as plurals do: stuffs and the one of a kind."""
# What else isn't counted, by the last word.
_UNCOUNTED = STUFFS | frozenset({
    "cash", "chess", "equipment", "food", "fog", "ginger", "juice", "magic", "mail", "meat", "milk", "moon", "music", "paper", "rain", "rice",
    "snow", "sugar", "sun", "tea", "toast", "water", "weather", "wind", "wine", "wood", "yarn",
    "away", "charge", "dizzy", "down", "foggy", "fuji", "hockey", "horizontally", "information", "luggage", "multiply", "divide",
    "thirty", "up", "vertically", "zzz", "left", "right", "japan", "aquarius", "aries", "leo", "libra", "sagittarius", "taurus", "virgo",
})  # fmt: skip
_SAME = ("bison", "deer", "fish", "moose", "salmon", "sheep", "shrimp", "squid")  # by the end of the last word
_IRREGULAR = {
    "calf": "calves", "child": "children", "foot": "feet", "goose": "geese", "knife": "knives", "leaf": "leaves", "loaf": "loaves",
    "mouse": "mice", "ox": "oxen", "sheaf": "sheaves", "scarf": "scarves", "shelf": "shelves", "elf": "elves",
    "tooth": "teeth", "wolf": "wolves",
}  # fmt: skip
_IN_OES = ("echo", "hero", "mango", "mosquito", "potato", "tomato", "tornado", "torpedo", "volcano")
_NO_MEN = frozenset({"human", "talisman"})
_HISSES = ("s", "x", "z", "ch", "sh")
# Plurals end in s, but for "glass", "octopus" and these.
_ENDS_AS_PLURALS_DO = re.compile(r"(?<![su])s\Z")
_SINGULAR_IN_S = frozenset({"ananas", "canvas", "christmas", "fleur-de-lis", "iris", "lens", "mrs", "news"})
_COUNTED_IN_S = frozenset({"canvas", "iris", "lens"})
# What is done or was done is not counted, but for these.
_DOING = re.compile(r"(?:ing|ed)\Z")
_THINGS_IN_ING = frozenset({
    "bed", "building", "dumpling", "earring", "king", "painting", "ring", "seed", "seedling", "sled", "string", "wing",
})  # fmt: skip
# Nobody, and what counts by itself: "man running", "two hearts", "no entry".
_BEGINNINGS = frozenset({
    "man", "men", "woman", "women", "person", "people", "half", "several", "two", "three", "four", "five", "some", "the", "no", "non",
})  # fmt: skip
_WORD = re.compile(r"[a-z]{3,}(?:[-’'][a-z]+)*\Z")
_MOST_WORDS = 2


def is_plural(word: str) -> bool:
    """Whether the last word of a name is a plural, as it is spelled: "skis", but not "iris"."""
    return bool(_ENDS_AS_PLURALS_DO.search(word)) and word not in _SINGULAR_IN_S


def plural_of(name: str) -> str | None:
    """A name in the plural; None for what isn't counted, or can't surely be: stuffs, doings, plurals already, names of many words."""
    more = _MORE_OF_A_NAME.search(name)
    thing, rest = (name[: more.start()], more[0]) if more else (name, "")
    words = thing.split()
    if words and words[0] == "japanese" and rest:  # buttons that say something: "japanese open for business button"
        return None
    if not words or len(words) > _MOST_WORDS or not all(map(_WORD.match, words)) or words[0] in _BEGINNINGS:
        return None
    head = words[-1]
    if head.rpartition("-")[2] in _UNCOUNTED or (_DOING.search(head) and head not in _THINGS_IN_ING):
        return None
    if _ENDS_AS_PLURALS_DO.search(head) and head not in _COUNTED_IN_S:
        return None
    return " ".join([*words[:-1], _plural_word(head)]) + rest


def _plural_word(word: str) -> str:
    if word.endswith(_SAME):
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith((*_HISSES, *_IN_OES)):
        return f"{word}es"
    if word.endswith("man") and word not in _NO_MEN:
        return f"{word[:-3]}men"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
