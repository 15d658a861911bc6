"""A set's pictures in their own size: which they are, and from where they are decoded anew."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from regl_app.config.sections import FitRule
from regl_app.core.errors import DataError
from regl_app.core.file_states import file_state
from regl_app.core.types import Indices
from regl_app.data.decode import Encoded
from regl_app.data.depth import Depth
from regl_app.data.looked import Looked


@dataclass(frozen=True)
class PictureFiles:
    """A source's encoded pictures in its order, opened one by one.

    ``states`` tell each from what it was before it changed: name, size, time of modification.
    ``open`` raises ``DataError`` where a file is no longer in that state. ``lasting`` says whether
    another process gives the same pictures the same states.
    """

    states: tuple[str, ...]
    open: Callable[[int], Encoded]
    lasting: bool = True

    @classmethod
    def of_paths(cls, paths: tuple[Path, ...]) -> Self:
        """Return the files at ``paths``."""
        states = tuple(map(file_state, paths))

        def opened(place: int) -> Encoded:
            _check_unchanged(paths[place], states[place])
            return str(paths[place]), paths[place]

        return cls(states, opened)

    def __len__(self) -> int:
        return len(self.states)

    def __iter__(self) -> Iterator[Encoded]:
        return map(self.open, range(len(self)))

    def __getitem__(self, place: int, /) -> Encoded:
        return self.open(place)

    @classmethod
    def joined(cls, parts: Sequence[PictureFiles]) -> Self:
        """Return the pictures of all ``parts`` in order."""
        places = [(part, place) for part in parts for place in range(len(part))]

        def opened(place: int) -> Encoded:
            part, inner = places[place]
            return part.open(inner)

        states = tuple(state for part in parts for state in part.states)
        return cls(states, opened, all(part.lasting for part in parts))

    def subset(self, places: Indices) -> PictureFiles:
        """Return the pictures at ``places`` (M,), in that order."""
        states, chosen = self.states, [int(place) for place in places]
        return PictureFiles(
            tuple(states[place] for place in chosen),
            lambda place: self.open(chosen[place]),
            self.lasting,
        )


def _check_unchanged(path: Path, state: str) -> None:
    try:
        unchanged = file_state(path) == state
    except OSError:
        unchanged = False
    if not unchanged:
        raise DataError(
            f"{path}: has changed or gone since its folder was read (start the run again)"
        )


@dataclass(frozen=True, eq=False)
class Originals:
    """Of each image of a set the picture that it was made from, larger than the image.

    ``files`` are the pictures of the whole set that this one is a part of, decoded together;
    ``places`` (N,) are those of this set among them. ``sides`` has for each of ``files`` the side
    of the largest square that is no enlargement, in pixels. ``channels``, ``rule`` and ``depth``
    are those by which the set itself was decoded; ``depth`` is None without deep greyscale.
    ``looked`` has for each of ``files`` the look of the client that holds it, if clients have any.
    """

    files: PictureFiles
    places: Indices
    sides: Indices
    channels: int
    rule: FitRule
    depth: Depth | None = None
    looked: Looked | None = None

    def subset(self, chosen: Indices) -> Originals:
        """Return the pictures of the images at ``chosen`` (M,), in that order."""
        return replace(self, places=self.places[chosen])

    def alone(self) -> Originals:
        """Return these pictures without those of the set that they are a part of."""
        everything = np.arange(len(self.places), dtype=np.int64)
        files, sides = self.files.subset(self.places), self.sides[self.places]
        looked = self.looked.subset(self.places) if self.looked else None
        return replace(self, files=files, places=everything, sides=sides, looked=looked)

    @property
    def own_sides(self) -> Indices:
        """Return the side of each picture, ``(N,)``."""
        return self.sides[self.places]

    @property
    def how(self) -> str:
        """Return by which rules the pictures are decoded."""
        deep = "" if self.depth is None else f"/{self.depth.words}"
        return f"{self.channels}/{self.rule}{deep}"

    @cached_property
    def digest(self) -> str:
        """Return what changes when one of these pictures does, or how it is decoded."""
        chosen = "\n".join(self.files.states[place] for place in self.places)
        looked = f"\n{self.looked.subset(self.places).words}" if self.looked else ""
        text = f"{self.how}\n{chosen}{looked}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
