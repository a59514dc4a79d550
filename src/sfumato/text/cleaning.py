"""A prompt made plain, as OpenAI made the captions plain that CLIP was trained on."""

import html
import re

PLAIN = re.compile(r"[\t\n\r -%'-~]*")
"""Printable ASCII and white space, but no "&", which may open an entity: ftfy leaves all of it as it is but for the ends of lines."""


def clean(text: str) -> str:
    """The text with its encoding repaired, HTML entities resolved, runs of white space made one space, and lower-cased.

    In this order, as in OpenAI's CLIP (`simple_tokenizer.py`: `basic_clean`, `whitespace_clean`, `lower`): ftfy repairs mojibake, uncurls
    quotes, composes accents (NFC) and removes control characters; entities are resolved twice, because captions from the web were often
    escaped twice; the ends are stripped. transformers' CLIPTokenizer does less: NFC, white space and lower case only. So the ids of a
    prompt with curly quotes, mojibake or entities differ between the two, and ours are those that CLIP was trained with.
    """
    if not PLAIN.fullmatch(text):
        # Loaded for a text that needs it: that takes longer than all else that a tokenizer loads.
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()
