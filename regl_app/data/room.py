"""Room for the pixels of pictures that threads decode at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Room:
    """Room for ``most`` pixels; a picture of more has it alone."""

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0
        self._changed = Condition()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Give a place for one picture, which is free again at the end."""
        place = Place(self)
        try:
            yield place
        finally:
            self._give(place.pixels)

    def _take(self, pixels: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + pixels <= self._most)
            self._taken += pixels

    def _give(self, pixels: int) -> None:
        with self._changed:
            self._taken -= pixels
            self._changed.notify_all()


class Place:
    """The place of one picture in a ``Room``: ``pixels`` is how much of it is taken."""

    def __init__(self, room: Room) -> None:
        self._room, self.pixels = room, 0

    def take(self, pixels: int) -> None:
        """Wait until there is room for a picture of ``pixels``, once: it may be read again."""
        if not self.pixels:
            self._room._take(pixels)
            self.pixels = pixels
