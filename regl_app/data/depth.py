"""Deep greyscale, of more than 8 bits a pixel, as 8 bits: by one rule for a whole data set."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from regl_app.config.sections import DepthRule

Values = npt.NDArray[np.float64]
NAMED: Mapping[str, float] = MappingProxyType(
    {"unit": 1.0, **{f"{bits}-bit": 2.0**bits - 1 for bits in (8, 10, 12, 14, 16)}}
)
"""The value that is white, by the name of the rule: black is 0."""
_LITTLE = 1 / 8
_MOST = sys.float_info.max


@dataclass(frozen=True)
class Scale:
    """Which values are black and white: linear between them, clipped beyond them."""

    low: float
    high: float

    @property
    def words(self) -> str:
        """What a message calls it."""
        for name, high in NAMED.items():
            if (self.low, self.high) == (0.0, high):
                return f"{name}, 0 to {high:g}"
        return f"range, {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Depth:
    """The rule of a data set: one scale for whole numbers, one for floats."""

    whole: Scale
    real: Scale

    def scale(self, extent: Extent) -> Scale:
        """Return the scale of a picture."""
        return self.whole if extent.whole else self.real

    def looks_flat(self, extent: Extent) -> bool:
        """Whether a picture uses less than an eighth of what lies between black and white."""
        scale = self.scale(extent)
        used = min(extent.high, scale.high) - max(extent.low, scale.low)
        return used < _LITTLE * (scale.high - scale.low)

    @property
    def words(self) -> str:
        """What a digest or a message calls it."""
        return f"{self.whole.words}; {self.real.words}"


@dataclass(frozen=True)
class UsedDepth:
    """The scales by which a set's deep greyscale was read; None of the kind that it has none of.

    Others are read alike by them: a few pictures may lead to another rule than all of a set.
    """

    whole: Scale | None = None
    real: Scale | None = None

    @classmethod
    def of(cls, depth: Depth | None, deep: int, floats: int) -> UsedDepth | None:
        """Return what ``deep`` pictures were read by, ``floats`` among them; None without any."""
        if depth is None or deep == 0:
            return None
        return cls(depth.whole if deep > floats else None, depth.real if floats else None)

    @classmethod
    def of_text(cls, text: str) -> UsedDepth:
        """Return what `text` is of.

        Raises:
            ValueError: it is of none.
        """
        match json.loads(text):
            case [whole, real]:
                return cls(_scale_in(whole), _scale_in(real))
        raise ValueError(f"must be two scales, got {text!r}")

    @property
    def text(self) -> str:
        """What a message carries of it: at most two pairs of numbers."""
        return json.dumps([each and [each.low, each.high] for each in (self.whole, self.real)])

    @property
    def words(self) -> str:
        """What a reader is told of it."""
        whole = [f"whole numbers as {self.whole.words}"] if self.whole else []
        return "; ".join(whole + ([f"floats as {self.real.words}"] if self.real else []))


def _scale_in(found: object) -> Scale | None:
    """Return the scale that was told as its two values, which may be anybody's word."""
    match found:
        case None:
            return None
        case [int() | float() as low, int() | float() as high] if -_MOST <= low < high <= _MOST:
            return Scale(float(low), float(high))
    raise ValueError(f"must be two finite numbers, the lower one first, got {found!r}")


def agreed(depths: Iterable[UsedDepth]) -> UsedDepth | None:
    """Return the scales of all of ``depths`` together; None where two differ, or without any."""
    known = list(depths)
    whole = {each.whole for each in known if each.whole}
    real = {each.real for each in known if each.real}
    if len(whole) > 1 or len(real) > 1 or not (whole or real):
        return None
    return UsedDepth(next(iter(whole), None), next(iter(real), None))


@dataclass(frozen=True)
class Extent:
    """What is known of a deep picture: its lowest and highest value, and how it is stored.

    ``promised`` is the highest value that its file says it could have, where it says so.
    """

    low: float
    high: float
    whole: bool
    promised: float = 0.0


def depth_of(extents: Sequence[Extent], rule: DepthRule, used: UsedDepth | None = None) -> Depth:
    """Return how all deep pictures of a data set become 8 bits, by ``data.depth``.

    What was ``used`` for an earlier set is used again, where it had pictures of that kind.

    'auto': whole numbers, and floats where they look like such, are of 8, 12 or 16 bits, the least
    that hold all pictures' values; floats within 0 to 1 are shares of white; where neither fits,
    as with negative values, the lowest value of all is black and the highest white.
    """
    of_kind = [[each for each in extents if each.whole is whole] for whole in (True, False)]
    before = (None, None) if used is None else (used.whole, used.real)
    return Depth(*(was or _scale(each, rule) for was, each in zip(before, of_kind, strict=True)))


def _scale(extents: Sequence[Extent], rule: DepthRule) -> Scale:
    if rule not in ("auto", "range"):
        return Scale(0.0, NAMED[rule])
    if not extents:
        return Scale(0.0, NAMED["16-bit"])
    low = min(each.low for each in extents)
    high = max(max(each.high, each.promised) for each in extents)
    if rule == "auto" and low >= 0 and (found := _by_size(high, extents[0].whole)):
        return Scale(0.0, found)
    # A set of one single value has no range: it is black.
    top = max(each.high for each in extents)
    return Scale(low, top if top > low else low + 1)


def _by_size(high: float, whole: bool) -> float | None:
    names = ("8-bit", "12-bit", "16-bit") if whole else ("unit", "8-bit", "12-bit", "16-bit")
    for name in names:
        white = NAMED[name]
        if high <= white:
            # Floats up to 5 are no pictures of 8 bits, of which they would be a dark corner.
            return white if whole or name == "unit" or high >= _LITTLE * white else None
    return None


def to_8_bit(values: Values, scale: Scale) -> npt.NDArray[np.uint8]:
    """Return ``values`` as 0 to 255, rounded; what is no number is black."""
    if scale.low:
        values = values - scale.low
    scaled = np.round(values * (255 / (scale.high - scale.low)))
    return np.clip(np.nan_to_num(scaled, posinf=255, neginf=0), 0, 255).astype(np.uint8)
