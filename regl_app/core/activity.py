"""Who is doing what just now and for how long: the one clock of log lines, metrics and records.

One :class:`Activity` per thread (clients of the in-process engine are threads). Code in the middle
of it says :func:`phase` as it goes from step to step, or :func:`timed` where it wants the seconds
of a step as well; outside of any activity the first does nothing and the second only measures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Span:
    """A stretch of time from its making on; ``stop`` ends it."""

    _began: float = field(default_factory=lambda: time.monotonic())
    _ended: float | None = None

    @property
    def seconds(self) -> float:
        """Return its length, until now while it goes on."""
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    def stop(self) -> None:
        """End it; once it has ended that does nothing."""
        if self._ended is None:
            self._ended = time.monotonic()


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


@contextmanager
def timed(name: str | None = None) -> Iterator[Span]:
    """Measure the block, as the phase ``name`` if one is given, and tell its seconds.

    The phase from before goes on when the block ends. When it fails, its own stays, so that the
    line about the failure says where it was. The span holds all of the block's seconds; in the
    activity's, those of phases within it count to these alone.

    Example:
        >>> with timed("adapt") as adapting:
        ...     pass
        >>> record = {"adapt": adapting.seconds}
    """
    now = _current.get()
    before = now.phase if now else ""
    span = Span()
    if name is not None:
        phase(name)
    try:
        yield span
    finally:
        span.stop()
    if name is not None:
        phase(before)


def note(**counts: int) -> None:
    """Keep numbers of things, for the metrics of whoever is at work."""
    now = _current.get()
    if now is not None:
        now.counts.update(counts)
