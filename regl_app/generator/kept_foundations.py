"""The foundations of a process: one for each thread that works with one at a time, and kept.

An adapter in effect changes a denoiser's weights, so that no two threads use one foundation at
once. A thread has what it borrowed until it gives that back. Whoever wants the same next gets it as
it is, in this run or a later one: nothing is loaded twice that is idle. Nobody waits for another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast


class Resting(Protocol):
    """A foundation, which says whether its denoiser is as it was loaded."""

    @property
    def at_rest(self) -> bool: ...


Foundation = TypeVar("Foundation", bound=Resting)


@dataclass(frozen=True)
class Wanted:
    """What tells foundations apart: all that one is made of, and the device that it is on."""

    made_of: tuple[object, ...]
    device: str


class _Mine(threading.local):
    """What this thread has borrowed: freed with the thread, if that ends without giving back."""

    wanted: Wanted | None = None
    foundation: Resting | None = None


_mine = _Mine()
_lock = threading.Lock()
_idle: list[tuple[Wanted, Resting]] = []


def borrow(wanted: Wanted, load: Callable[[], Foundation]) -> Foundation:
    """Return this thread's foundation: the one that it has, an idle one, or what ``load`` returns.

    Before it loads, another one of this thread is freed, and idle ones that are made of something
    else, on whatever device.
    """
    mine = _mine.foundation
    if mine is None or _mine.wanted != wanted:
        _mine.wanted, _mine.foundation, mine = None, None, None
        mine = _taken(wanted) or load()
        _mine.wanted, _mine.foundation = wanted, mine
    return cast(Foundation, mine)  # whoever wants the same wants the same kind


def give_back() -> None:
    """Let others have this thread's foundation, if it has one; it may use that no more.

    One with an adapter still in it is nobody's from now on.
    """
    wanted, foundation = _mine.wanted, _mine.foundation
    _mine.wanted, _mine.foundation = None, None
    if wanted is not None and foundation is not None and foundation.at_rest:
        with _lock:
            _idle.append((wanted, foundation))


def free_idle() -> None:
    """Free the foundations that no thread has at the moment."""
    with _lock:
        _idle.clear()


def _taken(wanted: Wanted) -> Resting | None:
    with _lock:
        for place, (which, foundation) in reversed(list(enumerate(_idle))):
            if which == wanted:
                del _idle[place]
                return foundation
        _idle[:] = [each for each in _idle if each[0].made_of == wanted.made_of]
    return None
