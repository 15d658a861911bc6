"""Which class was taken for which, of runs with few and with many classes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from regl_app.core.errors import RunError
from regl_app.runs.confusions import FILE, MOST_CLASSES, confusions_of, keep_confusion
from regl_app.runs.records import GlobalMetrics, RoundRecord

MANY = MOST_CLASSES + 1


def _counts(right: int) -> np.ndarray:
    counts = np.ones((MANY, MANY), np.int64)
    counts[0, 0] = right
    return counts


def test_of_many_classes_the_best_and_the_last_round_stay(tmp_path: Path) -> None:
    for number, right in enumerate((1, 7, 5, 7, 6)):
        keep_confusion(tmp_path, number, _counts(right))
    found = confusions_of([], tmp_path)
    assert found is not None
    assert (found.best.round, found.last.round) == (1, 4)
    assert (found.best.counts[0, 0], found.last.counts[0, 0]) == (7, 6)


def test_a_resumed_run_counts_its_rounds_once(tmp_path: Path) -> None:
    for number, right in ((0, 1), (1, 5), (2, 9), (2, 9), (3, 2)):
        keep_confusion(tmp_path, number, _counts(right))
    found = confusions_of([], tmp_path)
    assert found is not None
    assert (found.best.round, found.last.round) == (2, 3)


def test_the_round_that_was_chosen_stays_however_accurate_another_is(tmp_path: Path) -> None:
    rounds = ((0, 9, None), (1, 5, True), (2, 2, True), (3, 8, False), (4, 1, False))
    for number, right, better in rounds:
        keep_confusion(tmp_path, number, _counts(right), better)
    found = confusions_of([], tmp_path, 2)
    assert found is not None
    assert (found.best.round, found.last.round) == (2, 4)
    assert (found.kept(2).round, found.kept(4).round, found.kept(None).round) == (2, 4, 4)


def test_few_classes_stand_in_the_history_alone(tmp_path: Path) -> None:
    keep_confusion(tmp_path, 0, np.eye(MOST_CLASSES, dtype=np.int64))
    assert not list(tmp_path.iterdir())
    history = [
        RoundRecord(
            round=number,
            metrics=GlobalMetrics(
                accuracy=0.5, macro_f1=0.5, per_class=[0.5, 0.5], confusion=counts
            ),
        )
        for number, counts in ((1, [[2, 0], [0, 2]]), (2, [[1, 1], [0, 2]]), (3, None))
    ]
    found = confusions_of(history, tmp_path)
    assert found is not None
    assert (found.best.round, found.last.round) == (1, 2)
    chosen = confusions_of(history, tmp_path, 2)
    assert chosen is not None and chosen.best.round == 2
    # The chosen round may not have told.
    untold = confusions_of(history, tmp_path, 3)
    assert untold is not None and untold.best.round == 1


def test_a_damaged_file_is_named_and_does_not_stop_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(b"PK")
    with pytest.raises(RunError, match=FILE):
        confusions_of([], tmp_path)
    with caplog.at_level(logging.WARNING, "regl"):
        keep_confusion(tmp_path, 3, _counts(1))
    assert "it begins anew with round 3" in caplog.text
    assert confusions_of([], tmp_path) is not None


def test_a_table_of_other_classes_is_refused() -> None:
    for wrong in ({"confusion": [[1, 0]]}, {"f1": [0.5]}, {"confusion": [[1, -1], [0, 1]]}):
        with pytest.raises(ValidationError):
            GlobalMetrics(accuracy=0.5, macro_f1=0.5, per_class=[0.5, 0.5], **wrong)  # type: ignore[arg-type]
