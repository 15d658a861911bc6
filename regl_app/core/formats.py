"""Numbers as people read them: durations, sizes, shares."""

from __future__ import annotations

from collections.abc import Sequence


def format_seconds(seconds: float) -> str:
    """Return a duration for people: ``8 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(max(seconds, 0.0))
    return f"{whole} s" if whole < 60 else _minutes(whole)


NONE = "\N{EN DASH}"


def short(value: float) -> str:
    """Return a number in few characters: 950, 1.2k, 3.4M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if suffix == "k" else limit)
            return f"{scaled:.1f}".rstrip("0").rstrip(".") + suffix
    return f"{value:g}" if float(value).is_integer() else f"{value:.3g}"


def span(numbers: Sequence[int]) -> str:
    """Return where whole numbers, at least one, lie: 3, or 2 to 5."""
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage, a dash where there is none."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """Return measured seconds: 0.4 s, 42 s, 3 min 05 s, 2 h 10 min; a dash where there are none.

    Finer than :func:`format_seconds`, whose seconds are a guess or stand in a line of the log.
    """
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return _minutes(round(seconds))


def _minutes(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """Return bytes in decimal units."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} B"
