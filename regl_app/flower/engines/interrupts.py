"""Ctrl-C and SIGTERM while what was started is being ended."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def not_cut_short(doing: str) -> Iterator[None]:
    """Have SIGINT and SIGTERM wait until the block has ended, and say once that it is ``doing`` so.

    The first one is heard afterwards. Those that are ignored stay so, and outside the main thread
    nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def wait(number: int, _frame: FrameType | None) -> None:
        if not heard:
            sys.stderr.write(f"{doing}: a moment\n")
        heard.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    taken = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, wait) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
