"""Plain log lines that tell what a run is doing and how long it will take."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable

LOGGER = "regl"
RUN_FOLDER_LINE = "run folder: "
"""Opens the log line by which ``regl run`` learns where a run writes."""

_ARRAY_COPY = "__array__ implementation doesn't accept a copy keyword"

Progress = Callable[[str, int, int], None]


def setup_logging() -> logging.Logger:
    """Return the logger ``regl``, writing to stdout unless the program configured logging."""
    # diffusers' schedulers under NumPy 2: two long lines per worker that no user can act on.
    warnings.filterwarnings("ignore", _ARRAY_COPY, DeprecationWarning, r"diffusers\.")
    logger = logging.getLogger(LOGGER)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    return logger


def format_seconds(seconds: float) -> str:
    """Return a duration for people: ``8 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def log_progress(who: str, every: float = 5.0) -> Progress:
    """Return a callback ``(what, done, total)`` that logs at most one line per ``every`` seconds.

    The end of each ``what`` is left to the caller, who knows what came of it.
    """
    logger = logging.getLogger(LOGGER)
    started: dict[str, float] = {}
    last = {"time": time.monotonic()}

    def report(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        begin = started.setdefault(what, now)
        if done >= total:
            started.pop(what)
        elif now - max(begin, last["time"]) >= every:
            last["time"] = now
            left = (now - begin) / done * (total - done) if done and now > begin else None
            eta = "" if left is None else f", about {format_seconds(left)} left"
            logger.info("%s: %s %d/%d%s", who, what, done, total, eta)

    return report
