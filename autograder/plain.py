"""Words that may come from a learner's code, made harmless: for a terminal, a file and a page."""

import unicodedata

LONGEST = 2000  # characters
_LEFT_OUT = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, format, half, private and unknown characters


def plain(text: str) -> str:
    """Text without control characters, terminal sequences and half characters, and not endless.

    What remains of a terminal's sequence is its letters, which do nothing without their escape.
    """
    cut = text[:LONGEST] + (" …" if len(text) > LONGEST else "")
    return "".join(
        sign for sign in cut if sign in "\n\t" or unicodedata.category(sign) not in _LEFT_OUT
    )
