"""Class names as phrases a text-to-image model understands."""

from __future__ import annotations

from collections.abc import Collection, Sequence

Concept = str | tuple[str, ...]
"""What a prompt calls a class; several phrasings are used in turn."""

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


def concepts_of(names: Collection[str], *, article: bool = False) -> tuple[str, ...]:
    """Return the phrase for each of a data set's classes, as ``concept`` has it.

    Letters whose other case is a class too become ``the capital letter A``, ``the small letter a``.
    """
    return tuple(
        _letter(name)
        if len(name) == 1 and name.isascii() and name.isalpha() and name.swapcase() in names
        else concept(name, article=article)
        for name in names
    )


def _letter(name: str) -> str:
    return f"the {'capital' if name.isupper() else 'small'} letter {name}"


def phrasings(concept: Concept) -> tuple[str, ...]:
    """Return the texts that a class is called by, at least one."""
    return (concept,) if isinstance(concept, str) else concept


def prompts_line(texts: Sequence[Sequence[str]], negative: str, most: int = 1000) -> str:
    """Return the prompts of all classes in one line; of more than ``most`` the first ones."""
    shown = [" | ".join(phrasing) for phrasing in texts[:most]]
    more = f"; and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(shown) + more + (f"; away from {negative!r}" if negative else "")
