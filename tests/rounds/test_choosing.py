"""The best round so far: of equal ones the earlier, and what is no number is never the best."""

from __future__ import annotations

import math

import pytest

from regl_app.config.validation_section import ValidationConfig
from regl_app.core.errors import RunError
from regl_app.rounds.choosing import Choice, pooled_validation
from regl_app.rounds.exchange import EvaluationResult, Validation


def _choice(values: list[float], **keys: object) -> Choice:
    choice = Choice(ValidationConfig.model_validate({"fraction": 0.1, **keys}))
    for number, value in enumerate(values, start=1):
        choice.add(number, Validation(10, value, value))
    return choice


def test_accuracy_rises_and_loss_falls() -> None:
    assert _choice([0.2, 0.5, 0.5, 0.4]).best == 2
    assert _choice([0.2, 0.1, 0.5], metric="loss").best == 2
    assert _choice([math.nan, 0.3, math.nan], metric="loss").best == 2
    assert _choice([math.nan, math.inf], metric="loss").best == 0
    assert _choice([math.inf, 2.0, math.nan], metric="loss").best == 2
    assert _choice([math.nan], metric="loss").best == 0


def test_patience_counts_rounds_since_the_best() -> None:
    assert not _choice([0.5, 0.4, 0.4]).exhausted
    assert not _choice([0.5, 0.4], patience=2).exhausted
    assert _choice([0.5, 0.4, 0.5], patience=2).exhausted
    assert not _choice([0.5, 0.4, 0.6], patience=2).exhausted


def test_every_image_weighs_the_same() -> None:
    found = pooled_validation(
        [
            EvaluationResult(0, 1, 0, validation=Validation(30, 0.5, 1.0)),
            EvaluationResult(1, 1, 0),
            EvaluationResult(2, 1, 0, validation=Validation(10, 0.9, 2.0)),
        ]
    )
    assert (found.images, found.accuracy, found.loss) == (40, pytest.approx(0.6), 1.25)
    with pytest.raises(RunError, match=r"validation\.fraction"):
        pooled_validation([EvaluationResult(0, 1, 5)])
