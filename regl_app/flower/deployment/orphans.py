"""An app's process ends with the process of Flower's that started it, whatever it waits for.

Flower 1.41 watches for that by itself, but raises the signal in the thread that watches. A main
thread that waits for another thread does not wake up from it: a SuperLink that is killed while
messages are pushed to it left a ServerApp that tried to reach it for ever, and held its run folder.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from functools import cache

_OPTION = "--parent-pid"
_LOOK = 0.5
_GRACE = 10.0
"""Seconds; Flower's own end takes up to 5 for its last words before it is forced."""


@cache
def end_with_parent() -> None:
    """Watch the process that Flower names as this one's parent; without one do nothing.

    Once it is gone Flower's own watch has 10 seconds, then the main thread is interrupted, and
    10 seconds later the process is ended.
    """
    parent = _named(sys.argv)
    if parent is not None and parent == os.getppid():
        threading.Thread(target=_watch, args=(parent,), name="end-with-parent", daemon=True).start()


def _named(arguments: list[str]) -> int | None:
    for option, value in itertools.pairwise(arguments):
        if option == _OPTION and value.isdecimal():
            return int(value)
    return None


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    time.sleep(_GRACE)
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    time.sleep(_GRACE)
    os._exit(1)
