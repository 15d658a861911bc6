"""A run followed from outside, by what it writes into its folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from regl_app.core.formats import format_seconds
from regl_app.runs.folder import RunFolder
from regl_app.runs.lock import is_running
from regl_app.runs.round_line import round_line

_QUIET_ROUNDS = 5.0
_QUIET_SECONDS = 300.0


def watch(
    folder: RunFolder,
    *,
    interval: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Yield a line per round, those that are over first, until the run has ended.

    One that was killed left no end: on its own machine that is told at once. From elsewhere it is
    silent only: a silence of five minutes and five times the last round is remarked on, once.

    Args:
        folder: the run's.
        interval: seconds between looks.
        sleep: waits so many seconds.
        clock: the seconds that silence is measured by.

    Raises:
        RunError: the folder's files cannot be read.
    """
    config, seen, heard, remarked = folder.read_config(), 0, clock(), False
    last = 0.0
    while True:
        # First: what was written before the end is in the history.
        alive, result = is_running(folder.path), folder.read_result()
        if alive:
            result = None  # an earlier end: the run has been resumed
        history = folder.read_history()
        for record in history[seen:]:
            heard, remarked, last = clock(), False, record.seconds.wall
            if record.round > 0:
                yield round_line(record, config)
                yield from (f"  {failure}" for failure in record.failures)
        seen = len(history)
        if result is not None:
            why = f": {result.error}" if result.error else ""
            yield f"{result.status} after {format_seconds(result.seconds)}{why}"
            return
        if alive is False:
            rounds = f"after round {history[-1].round}" if history else "before the first round"
            yield f"killed {rounds}: its process is gone and left no end"
            return
        silence = clock() - heard
        if silence > max(_QUIET_SECONDS, _QUIET_ROUNDS * last) and not remarked:
            remarked = True
            yield f"nothing new for {format_seconds(silence)}: is it still running? (flwr list)"
        sleep(interval)
