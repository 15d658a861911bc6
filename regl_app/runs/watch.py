"""A run followed from outside, by what it writes into its folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from regl_app.config import RunConfig
from regl_app.core.formats import format_seconds
from regl_app.runs.folder import RunFolder
from regl_app.runs.kept import ended_early, kept_record, kept_words
from regl_app.runs.lock import is_running
from regl_app.runs.records import RoundRecord, RunResult
from regl_app.runs.round_line import round_line, scores

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
        history = folder.read_history(quiet=True)
        for record in history[seen:]:
            heard, remarked, last = clock(), False, record.seconds.wall
            if record.round > 0:
                yield round_line(record, config)
                yield from (f"  {failure}" for failure in record.failures)
        seen = len(history)
        if result is not None:
            yield _end(config, history, result)
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


def _end(config: RunConfig, history: Sequence[RoundRecord], result: RunResult) -> str:
    """Return how a run ended, and where it chose among its rounds, what it keeps."""
    text = f"{result.status} after {format_seconds(result.seconds)}"
    if result.error:
        text += f": {result.error}"
    if ended_early(config, history, result):
        text += f", at round {history[-1].round} of {config.rounds} as it got no better"
    kept, words = kept_record(history, result), kept_words(result)
    return (
        f"{text}; the model is that of {words}: {scores(kept, config)}" if kept and words else text
    )
