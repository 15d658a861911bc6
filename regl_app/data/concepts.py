"""Class names as phrases a text-to-image model understands."""

from __future__ import annotations

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def concept(name: str, *, article: bool = False) -> str:
    """Return the phrase for the class ``name``, to stand in ``a photo of {concept}``.

    A single digit or Latin letter becomes ``the digit three`` or ``the letter b``; in any other
    name ``_`` and ``-`` become spaces, with ``a`` or ``an`` in front if ``article``.
    """
    if len(name) == 1 and name in "0123456789":
        return f"the digit {DIGIT_WORDS[int(name)]}"
    if len(name) == 1 and name.isascii() and name.isalpha():
        return f"the letter {name.lower()}"
    words = " ".join(name.replace("_", " ").replace("-", " ").split())
    if not article:
        return words or name
    return f"{'an' if words[:1].lower() in set('aeiou') else 'a'} {words}"
