"""Decoding image files of mixed formats and sizes into squares of one size."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from regl_app.config.sections import DepthRule, FitRule, UnreadableRule
from regl_app.core.errors import DataError
from regl_app.core.processors import usable_processors
from regl_app.data.deep_pixels import DEEP_MODES, DeepPixels, deep_pixels
from regl_app.data.depth import NAMED, Depth, UsedDepth, depth_of
from regl_app.data.picture_formats import formats_for
from regl_app.data.pixels import (
    GRAY_MODES,
    Pixels,
    orientation,
    quiet_pillow,
    raw_mode,
    shallow_pixels,
    upright,
)
from regl_app.data.png_notes import without_large_notes
from regl_app.data.resize import own_side, to_square
from regl_app.data.room import Room
from regl_app.data.squares import Reading, Squares, SquaresInMemory

_TOLD = 10
_MOST_WORKERS, _AHEAD = 8, 4
_MOST_PIXELS = 100_000_000  # of pictures decoded at once, 17 bytes each
_UNKNOWN = np.zeros((1, 1), np.uint8)
DECODING = 2
"""Counts up whenever a picture that could be read becomes other pixels: what is stored is stale."""

Encoded = tuple[str, Path | bytes]
"""A picture's name for messages, and its path or its encoded bytes."""


class EncodedPictures(Protocol):
    """N encoded pictures, of which one may be asked for more than once."""

    def __len__(self) -> int:
        """Return N."""

    def __iter__(self) -> Iterator[Encoded]:
        """Go through them in order."""

    def __getitem__(self, place: int, /) -> Encoded:
        """Return the one at ``place``."""


@dataclass(frozen=True)
class Decoded(Reading):
    """Squares of one size, uint8 ``(N, C, size, size)``, and how they came to be."""

    images: torch.Tensor = field(kw_only=True)


def decode_images(
    files: EncodedPictures,
    size: int,
    channels: int | None = None,
    rule: FitRule = "crop",
    depth: DepthRule | Depth = "auto",
    unreadable: UnreadableRule = "refuse",
    used: UsedDepth | None = None,
) -> Decoded:
    """Return ``files`` as squares of ``size``, in memory; the other arguments are ``decode``'s."""
    squares = SquaresInMemory(size)
    reading = decode(files, squares, channels, rule, depth, unreadable, used)
    return Decoded(**vars(reading), images=squares.together(channels))


def decode(
    files: EncodedPictures,
    squares: Squares,
    channels: int | None,
    rule: FitRule,
    depth: DepthRule | Depth,
    unreadable: UnreadableRule,
    used: UsedDepth | None = None,
) -> Reading:
    """Give ``files`` to ``squares``, gray ones with one channel.

    Args:
        files: the encoded pictures; several are decoded at once.
        squares: takes those that can be read.
        channels: 1 or 3, to have that many; None: what a picture has.
        rule: how what is no square becomes one (``to_square``).
        depth: how deep greyscale becomes 8 bits (``depth_of``), or as it was for the same set.
        unreadable: whether a file that cannot be decoded is refused or left out.
        used: the scales of an earlier set, which come before ``depth``.

    Raises:
        DataError: names the files that cannot be decoded, the first ten, a line each; the first
            line says how many there are, for who sees no more of it.
    """
    quiet_pillow()
    if isinstance(depth, str) and (depth in NAMED or (used and used.whole and used.real)):
        depth = depth_of((), depth, used)
    sides, kept = [], []
    problems: list[_UnreadableError] = []
    deep: list[tuple[int, DeepPixels]] = []
    known = depth if isinstance(depth, Depth) else None
    for place, found in enumerate(_read_all(files, squares.size, channels, rule, known)):
        if isinstance(found, _UnreadableError):
            problems.append(found)
            continue
        if found.deep is not None:
            # What the rule is, all pictures tell: without it they are read a second time.
            deep.append((len(squares), found.deep))
        squares.add(found.square)
        kept.append(place)
        sides.append(found.side)
    if problems and (unreadable == "refuse" or not kept):
        first, *others = problems
        of = f", the first of {len(problems)}" if others else ""
        told = [f"{first}{of}; {first.remedy}", *(f"{each}; {each.remedy}" for each in others)]
        raise DataError("\n".join(first_few(told)))
    if isinstance(depth, str):
        depth = depth_of([pixels.extent for _, pixels in deep], depth, used)
        for place, _ in deep:
            again = _read(*files[kept[place]], channels)
            if not isinstance(again, DeepPixels):
                raise DataError(f"{files[kept[place]][0]}: has changed while it was read")
            squares.replace(place, _square(again.shallow(depth), squares.size, rule))
    return Reading(
        np.array(sides, dtype=np.int64),
        np.array(kept, dtype=np.int64),
        tuple(map(str, problems)),
        depth if deep else None,
        len(deep),
        tuple(each.name for _, each in deep if depth.looks_flat(each.extent)),
        sum(not each.extent.whole for _, each in deep),
    )


def can_any_be_read(files: EncodedPictures, size: int) -> bool:
    """Return whether any of ``files`` can be decoded now."""
    try:
        return bool(len(decode_images(files, size, unreadable="skip").kept))
    except DataError:
        return False


@dataclass(frozen=True)
class _Read:
    """A picture as a square, its own side, and what is known of its pixels if they are deep."""

    square: torch.Tensor
    side: int
    deep: DeepPixels | None = None


def _read_all(
    files: EncodedPictures, size: int, channels: int | None, rule: FitRule, depth: Depth | None
) -> Iterator[_Read | _UnreadableError]:
    """Yield each file's square, or what is wrong with it, in order: decoders leave Python's lock.

    Only a few are held at once.
    """

    room = Room(_MOST_PIXELS)

    def read(name: str, file: Path | bytes) -> _Read | _UnreadableError:
        with room.place() as place:
            try:
                pixels = _read(name, file, channels, place.take)
            except _UnreadableError as error:
                return error
            side = own_side(pixels.shape[0], pixels.shape[1], rule)
            if not isinstance(pixels, DeepPixels):
                return _Read(_square(pixels, size, rule), side)
            shallow = _UNKNOWN if depth is None else pixels.shallow(depth)
            return _Read(_square(shallow, size, rule), side, pixels.forgotten())

    workers = min(usable_processors(), _MOST_WORKERS)
    pending: deque[Future[_Read | _UnreadableError]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for name, file in files:
                pending.append(pool.submit(read, name, file))
                if len(pending) > _AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def first_few(lines: list[str] | tuple[str, ...]) -> list[str]:
    """Return the first ten of ``lines``, and how many more there are."""
    more = [f"{len(lines) - _TOLD} more"] if len(lines) > _TOLD else []
    return [*lines[:_TOLD], *more]


class _UnreadableError(Exception):
    """A file holds no picture that can be decoded; ``remedy`` is for who wants it read."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = f"{remedy}, or leave such files out (data.unreadable=skip)"


def _read(
    name: str,
    file: Path | bytes,
    channels: int | None,
    sized: Callable[[int], None] = lambda _: None,
) -> Pixels | DeepPixels:
    """Return a picture's pixels; ``sized`` is told how many they are before they are decoded."""
    from PIL import Image

    if file == b"":
        raise _UnreadableError(f"{name}: holds no picture", "give it one or remove it")
    stream = BytesIO(file) if isinstance(file, bytes) else file
    try:
        try:
            return _pixels(name, stream, channels, sized)
        except ValueError:
            content = file if isinstance(file, bytes) else file.read_bytes()
            if (light := without_large_notes(content)) is None:
                raise
            return _pixels(name, BytesIO(light), channels, sized)
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise _UnreadableError(
            f"{name}: too large an image ({error})",
            f"at most {most:,} pixels are read: make it smaller or cut it into several",
        ) from error
    except Exception as error:  # a damaged file can lead a decoder into any
        named = repr(str(file) if isinstance(file, Path) else stream)  # already, by ``name``
        why = re.sub(rf":? {re.escape(named)}", "", str(error))
        raise _UnreadableError(
            f"{name}: not a readable image ({why})", "repair the file or remove it"
        ) from error


def _pixels(
    name: str, stream: Path | BytesIO, channels: int | None, sized: Callable[[int], None]
) -> Pixels | DeepPixels:
    from PIL import Image

    with Image.open(stream, formats=formats_for(name)) as image:
        sized(image.width * image.height)
        raw = raw_mode(image)
        finish: Callable[[], DeepPixels] | None = None
        if image.mode in DEEP_MODES:
            finish = deep_pixels(name, image)
        image.load()
        if finish is not None:
            return finish()
        gray = image.mode in GRAY_MODES if channels is None else channels == 1
        return upright(shallow_pixels(image, raw, gray), orientation(image))


def _square(pixels: Pixels, size: int, rule: FitRule) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(pixels))
    planes = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    return to_square(planes[None], size, rule)[0]
