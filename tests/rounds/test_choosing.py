"""The best round so far: of equal ones the earlier, and what is no number is never the best."""

from __future__ import annotations

import math

import pytest

from regl_app.config.validation_section import ValidationConfig
from regl_app.core.errors import RunError
from regl_app.rounds.choosing import LOOKED_BACK, Choice, pooled_validation
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


def _seen(*rounds: tuple[int, float] | None, patience: int = 0) -> Choice:
    """Return the choice after rounds of so many images and that accuracy; None: nobody measured."""
    choice = Choice(ValidationConfig(fraction=0.1, patience=patience))
    for number, each in enumerate(rounds, start=1):
        choice.add(number, None if each is None else Validation(each[0], each[1], 1.0))
    return choice


def test_a_round_that_lacks_a_site_is_not_compared() -> None:
    """Without the hardest images accuracy rises: the round is neither better nor worse."""
    whole, partial = (90, 0.6), (60, 0.9)
    assert _seen(whole, partial).best == 1
    assert _seen(whole, None).best == 1
    assert _seen(whole, partial, (90, 0.7)).best == 3
    assert not _seen(whole, partial, None, patience=1).exhausted
    assert _seen(whole, partial, (90, 0.5), patience=1).exhausted
    choice = _seen(whole, partial)
    assert not choice.compared and _seen(whole).compared
    assert choice.words == "round 1, validation accuracy 60.0%"


def test_more_images_than_ever_begin_anew() -> None:
    assert _seen((60, 0.9), (90, 0.6)).best == 2
    assert _seen((60, 0.9), (90, 0.6), (60, 0.95), (90, 0.7)).best == 4
    assert not _seen((60, 0.9), (60, 0.8), (90, 0.6), patience=2).exhausted


def test_a_site_that_comes_back_finds_the_best_of_its_rounds_again() -> None:
    gone = [(60, 0.5)] * LOOKED_BACK
    choice = _seen((90, 0.9), *gone)
    assert choice.best == LOOKED_BACK + 1
    assert set(choice.needed[LOOKED_BACK + 1]) == {1, LOOKED_BACK + 1}
    assert _seen((90, 0.9), *gone, (90, 0.4)).best == 1
    assert not _seen((90, 0.9), *gone, (90, 0.4), patience=2).exhausted
    assert _seen((90, 0.9), *gone, (90, 0.4), (90, 0.5), patience=2).exhausted
    assert _seen((90, 0.9), *gone, (90, 0.95)).best == LOOKED_BACK + 2


def test_a_loss_that_is_no_number_takes_the_place_of_no_best_round() -> None:
    choice = Choice(ValidationConfig(fraction=0.1, metric="loss", patience=2))
    choice.add(1, Validation(60, 0.5, 0.3))
    choice.add(2, Validation(90, 0.5, math.nan))
    assert choice.best == 1
    choice.add(3, Validation(90, 0.5, 0.9))
    assert choice.best == 3
    lost = Choice(ValidationConfig(fraction=0.1, metric="loss", patience=2))
    for number in (1, 2):
        lost.add(number, Validation(90, 0.5, math.inf))
    assert lost.best == 0 and lost.exhausted


def test_no_more_models_are_kept_than_a_few() -> None:
    choice = _seen(*((number, 0.5) for number in range(60, 70)))
    assert choice.best == 10
    assert len(choice.needed[10]) == 4


def test_a_best_round_whose_model_is_gone_is_none() -> None:
    choice = _seen((60, 0.9), (90, 0.6))
    choice.forget(1)
    assert choice.best == 2
    choice.forget(2)
    assert choice.best == 0
    choice.add(3, Validation(90, 0.5, 1.0))
    assert choice.best == 3


def test_a_site_that_is_gone_for_good_does_not_end_the_choice() -> None:
    gone = [(60, 0.5)] * (LOOKED_BACK - 1)
    assert _seen((90, 0.6), *gone).best == 1
    after = LOOKED_BACK + 1
    assert _seen((90, 0.6), *gone, (60, 0.4)).best == after, "the first that can be compared"
    assert _seen((90, 0.6), *gone, (60, 0.4), (60, 0.3)).best == after
    assert _seen((90, 0.6), *gone, (60, 0.4), (60, 0.7)).best == after + 1
    assert not _seen((90, 0.6), *gone, (60, 0.4), patience=1).exhausted
    assert _seen((90, 0.6), *gone, (60, 0.4), (60, 0.3), patience=1).exhausted
    lost = [None] * LOOKED_BACK
    assert _seen((90, 0.6), *lost).best == 1
    assert _seen((90, 0.6), *lost, (60, 0.4)).best == after + 1


def test_every_image_weighs_the_same() -> None:
    found = pooled_validation(
        [
            EvaluationResult(0, 1, 0, validation=Validation(30, 0.5, 1.0)),
            EvaluationResult(1, 1, 0),
            EvaluationResult(2, 1, 0, validation=Validation(10, 0.9, 2.0)),
        ]
    )
    assert found is not None
    assert (found.images, found.accuracy, found.loss) == (40, pytest.approx(0.6), 1.25)
    with pytest.raises(RunError, match=r"validation\.fraction"):
        pooled_validation([EvaluationResult(0, 1, 5)])
    assert pooled_validation([EvaluationResult(0, 1, 5)], required=False) is None
