"""Signals of a run, and of its end: one place for who hears them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def terminable(*, hangup: bool = False) -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that nothing is left running; SIGHUP likewise if asked to.

    An ignored SIGHUP stays so.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGTERM:  # shell and terminal both send it: the end is not cut short
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    heard = [signal.SIGTERM]
    if hangup and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    with _heard(heard, leave):
        yield


@contextmanager
def not_cut_short(doing: str) -> Iterator[None]:
    """Have signals that end a process wait for the block's end; say once what it is ``doing``.

    SIGINT, SIGTERM and SIGHUP. The first one is heard afterwards. Those that are ignored stay so.
    """
    waiting: list[int] = []

    def wait(number: int, _frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) == 1:
            # Who reads it may be gone, as a `tee` that Ctrl-C ended; RuntimeError: it came amid
            # another write.
            with suppress(OSError, ValueError, RuntimeError):
                sys.stderr.write(f"{doing}: a moment\n")

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    taken = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    try:
        with _heard(taken, wait):
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])


@contextmanager
def _heard(
    numbers: Sequence[signal.Signals], by: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals so for the length of the block; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, by) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
