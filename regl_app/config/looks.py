"""Looks by name, ``name:amount+name``, as ``partition.looks`` and ``regl pretrain --look`` have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PLAIN = "plain"

Steps = tuple[tuple[str, float], ...]
"""The steps of one look in their order: names with their amounts, 0 where a step takes none."""


@dataclass(frozen=True)
class Amount:
    """How much of a step there is unless it is said, and what may be said."""

    usual: float
    lowest: float
    highest: float


LOOK_STEPS: Mapping[str, Amount | None] = MappingProxyType(
    {
        PLAIN: None,
        "rotated": Amount(20.0, -360.0, 360.0),
        "blurred": Amount(1.0, 0.1, 16.0),
        "noisy": Amount(25.0, 0.0, 255.0),
        "dimmed": Amount(0.5, 0.0, 1.0),
        "tinted": Amount(0.5, 0.0, 1.0),
        "inverted": None,
        "sheared": None,
        "shrunk": None,
        "mirrored": None,
        "outlined": None,
    }
)
"""What a look may be made of, each with its amount; ``regl_app/data/looks.py`` does it."""


def parse_look(text: str, key: str) -> Steps:
    """Return the steps of one look, such as ``inverted+rotated:90``.

    Raises:
        ValueError: a name is unknown, or an amount is none for it; says so of ``key``.
    """
    return tuple(_step(part.strip(), text, key) for part in text.split("+"))


def parse_looks(text: str) -> tuple[Steps, ...]:
    """Return the looks of ``partition.looks``, separated by commas; none for an empty text.

    Raises:
        ValueError: one of them is no look.
    """
    return tuple(parse_look(look, "partition.looks") for look in look_names(text))


def look_names(text: str) -> tuple[str, ...]:
    """Return what the looks of ``partition.looks`` are called."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def _step(part: str, look: str, key: str) -> tuple[str, float]:
    name, colon, amount = part.partition(":")
    if name not in LOOK_STEPS:
        between = " and by ',' between looks" if key == "partition.looks" else ""
        raise ValueError(
            f"{key} must be of {', '.join(LOOK_STEPS)}, by '+' within a look{between}, got "
            f"{part!r} in {look!r}"
        )
    step = LOOK_STEPS[name]
    if step is None:
        if colon:
            raise ValueError(f"{key}: {name!r} takes no amount, got {part!r}")
        return name, 0.0
    if not colon:
        return name, step.usual
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not step.lowest <= value <= step.highest:
        raise ValueError(
            f"{key}: the amount of {name!r} must be a number from {step.lowest:g} to "
            f"{step.highest:g}, got {part!r} (try '{name}:{step.usual:g}')"
        )
    return name, value
