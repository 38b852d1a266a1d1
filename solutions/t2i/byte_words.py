"""Words before byte-pair encoding: a text is cleaned, cut into words, and each word into symbols.

    split_words("It's 42!")          # ["it", "'s", "4", "2", "!"]
    start_pieces("né")               # ("n", "Ã", "©</w>"): a symbol for each byte

As in CLIP, to the letter; the details matter to nobody but those who want the same numbers.
"""

import re
import unicodedata
from functools import cache

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
_SPACES = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_SHORT = re.compile(r"'(?:s|t|re|ve|m|ll|d)")  # the endings of it's, don't, we're, …
_MARKS = re.compile(f"({re.escape(START)}|{re.escape(END)})")
_RUN = re.compile(r"L+|N|o+")  # of kinds: letters, one figure, signs


@cache
def byte_symbols() -> tuple[str, ...]:
    """A visible symbol for each of the 256 bytes: itself where it is one, else a letter above 255.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners" (GPT-2).
    """
    visible = {*range(ord("!"), 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return tuple(chr(256 + hidden.index(b)) if b in hidden else chr(b) for b in range(256))


def clean(text: str) -> str:
    """Lower case, one way to write each accent, and every stretch of white space one space."""
    text = _SPACES.sub(" ", unicodedata.normalize("NFC", text))
    return "".join(letter.lower() for letter in text)


def split_words(text: str) -> list[str]:
    """Cut a text into words: runs of letters, single figures, runs of other signs.

    A start or end mark that somebody wrote into the text stays whole, as in CLIP.

    Args:
        text: any.

    Returns:
        the words, cleaned, without white space: "It's 42!" -> ["it", "'s", "4", "2", "!"].
    """
    words = []
    for part in _MARKS.split(text):
        if part in (START, END):
            words.append(part)
            continue
        words += _runs(clean(part))
    return words


def start_pieces(word: str) -> tuple[str, ...]:
    """The pieces of a word before any merge: a symbol for each byte, the last with `</w>`."""
    if word in (START, END):
        return (word,)
    symbols = [byte_symbols()[byte] for byte in word.encode()]
    return (*symbols[:-1], symbols[-1] + WORD_END)


def _runs(text: str) -> list[str]:
    """The words of a cleaned text; a mark in it was no mark before, and is three words."""
    words, place = [], 0
    kinds = "".join(_kind(letter) for letter in text)
    while place < len(text):
        mark = _MARKS.match(text, place)
        found = mark or _SHORT.match(text, place) or _RUN.match(kinds, place)
        if found:
            word = text[place : found.end()]
            words += ["<|", word[2:-2], "|>"] if mark else [word]
        place = found.end() if found else place + 1
    return words


@cache
def _kind(letter: str) -> str:
    """ "L" for a letter, "N" for a figure, " " for a space, "o" for any other sign."""
    if letter == " ":
        return " "
    kind = unicodedata.category(letter)[0]
    return kind if kind in "LN" else "o"
