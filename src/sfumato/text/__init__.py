"""Prompts into token ids, as CLIP reads them. No torch here."""

from sfumato.text.cleaning import clean as clean
from sfumato.text.tokenizer import Tokenizer as Tokenizer
from sfumato.text.tokenizer import Tokens as Tokens
