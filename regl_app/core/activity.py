"""Who is doing what just now, so that log lines and metrics can say so without being told.

One :class:`Activity` per thread (clients of the in-process engine are threads). Code in the middle
of it says :func:`phase` as it goes from step to step; outside of any activity that does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Activity:
    """What ``who`` does: its round (0 before the first), its phase, and what is known so far.

    ``seconds`` are those of the phases that are over, ``counts`` what was noted of them.
    """

    who: str
    phase: str
    round: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _since: float = field(default_factory=lambda: time.monotonic())

    def close_phase(self) -> None:
        """Add the time since the last phase began to that phase."""
        now = time.monotonic()
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self._since
        self._since = now


_current: ContextVar[Activity | None] = ContextVar("regl_activity", default=None)


def current() -> Activity | None:
    """Return what this thread is doing, None if nobody said."""
    return _current.get()


@contextmanager
def activity(who: str, phase: str, round_number: int = 0) -> Iterator[Activity]:
    """Let ``who`` be at ``phase`` until the block ends."""
    started = Activity(who, phase, round_number)
    token = _current.set(started)
    try:
        yield started
    finally:
        started.close_phase()
        _current.reset(token)


def phase(name: str, round_number: int | None = None) -> None:
    """Go on to the phase ``name``, of another round if one is given."""
    now = _current.get()
    if now is None:
        return
    now.close_phase()
    now.phase = name
    if round_number is not None:
        now.round = round_number


def note(**counts: int) -> None:
    """Keep numbers of things, for the metrics of whoever is at work."""
    now = _current.get()
    if now is not None:
        now.counts.update(counts)
