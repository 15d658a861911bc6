"""confusion.npz: which class was taken for which, where the history has no place for it.

A run of at most `MOST_CLASSES` classes has all rounds' counts in its history and no such file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regl_app.core.array_files import read_arrays, require, write_arrays
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.core.types import Counts
from regl_app.runs.records import RoundRecord

MOST_CLASSES = 20
FILE = "confusion.npz"
_BEST, _LAST = "best", "last"


@dataclass(frozen=True)
class Confusion:
    """How often class i was taken for j after round ``round``, ``(C, C)``."""

    round: int
    counts: Counts

    @property
    def accuracy(self) -> float:
        """Return the share of images that were taken for what they are; not all rounds have all."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))


@dataclass(frozen=True)
class Confusions:
    """Those of the best round, the first of these, and of the last one.

    The best is the one that a run chose by its validation images, else that of the highest
    accuracy on the test images.
    """

    best: Confusion
    last: Confusion

    def kept(self, number: int | None) -> Confusion:
        """Return that of the round whose model the run keeps, of the last one if it chose none."""
        return self.best if self.best.round == number else self.last


def keep_confusion(
    run_dir: Path, number: int, counts: Counts | None, better: bool | None = None
) -> None:
    """Write down what round ``number`` confused, where the history has no place for it.

    ``better``: whether the round is the best so far; None leaves it to the accuracy.
    """
    if counts is None or len(counts) <= MOST_CLASSES:
        return
    now = Confusion(number, counts)
    try:
        before = load_confusions(run_dir)
    except RunError as error:
        logger.warning("%s; it begins anew with round %d", error, number)
        before = None
    # A resumed run comes by its rounds again.
    best = now
    if before is not None and before.best.round < number:
        surpassed = before.best.accuracy < now.accuracy if better is None else better
        best = now if surpassed else before.best
    arrays = {_BEST: best.counts, _LAST: counts, "rounds": np.array([best.round, number], np.int64)}
    write_arrays(run_dir / FILE, arrays)


def load_confusions(run_dir: Path) -> Confusions | None:
    """Return what `keep_confusion` left, None if that is nothing.

    Raises:
        RunError: the file is damaged.
    """
    path = run_dir / FILE
    if not path.is_file():
        return None
    arrays = read_arrays(path)
    rounds = require(path, arrays, "rounds", "int64", 1)
    best, last = (require(path, arrays, name, "int64", 2) for name in (_BEST, _LAST))
    square = best.shape == last.shape and len(last) == last.shape[1]
    if len(rounds) != 2 or not square or min(best.min(initial=0), last.min(initial=0)) < 0:
        raise RunError(
            f"{path}: must hold two rounds and two square tables of counts, got {len(rounds)} "
            f"rounds, {best.shape} and {last.shape}"
        )
    return Confusions(Confusion(int(rounds[0]), best), Confusion(int(rounds[1]), last))


def confusions_of(
    history: Sequence[RoundRecord], run_dir: Path, best: int | None = None
) -> Confusions | None:
    """Return a run's best and last counts, from its history or its file, None without any.

    ``best`` is the round that the run chose (``RunResult.best_round``), None if it chose none.

    Raises:
        RunError: the file is damaged.
    """
    told = [
        Confusion(record.round, np.asarray(record.metrics.confusion, np.int64))
        for record in history
        if record.metrics.confusion is not None
    ]
    if not told:
        return load_confusions(run_dir)
    chosen = next((each for each in told if each.round == best), None)
    return Confusions(chosen or max(told, key=lambda each: each.accuracy), told[-1])
