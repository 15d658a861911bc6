"""The numbers a run is judged by."""

from __future__ import annotations

import pytest

from regl_app.runs.records import GlobalMetrics, Personalized, RoundRecord, RunResult, Traffic
from regl_app.runs.statistics import Interval, largest_rows, latest_rows, mean_interval, summarize


def _record(number: int, accuracy: float, **more: object) -> RoundRecord:
    metrics = GlobalMetrics(accuracy=accuracy, macro_f1=accuracy / 2)
    return RoundRecord.model_validate({"round": number, "metrics": metrics} | more)


def test_summary_of_a_run() -> None:
    history = [
        _record(0, 0.1),
        _record(1, 0.92, synthetic_counts=[[1, 2], [5, 5]], bytes=Traffic(down=3, up=4)),
        _record(2, 0.95, personalized=Personalized(mean=0.7, per_client={0: 0.5, 1: 0.9})),
        _record(3, 0.8, synthetic_counts=[[2, 2], [1, 0]]),
    ]
    summary = summarize(history, RunResult(status="finished", seconds=9.0))
    assert (summary.rounds, summary.accuracy, summary.best_accuracy) == (3, 0.8, 0.95)
    assert summary.mean_accuracy == pytest.approx((0.92 + 0.95 + 0.8) / 3)  # not of round 0
    assert summary.rounds_to_target == 1
    assert (summary.personalized, summary.personalized_worst) == (0.7, 0.5)
    assert summary.synthetic_images == 13  # of one round
    assert (summary.seconds, summary.bytes_down, summary.bytes_up) == (9.0, 3, 4)


def test_own_models_count_where_there_is_a_test() -> None:
    facts = {0: {"local_accuracy": 0.5}, 1: {"local_accuracy": 1.0}, 2: {"loss": 0.1}}
    assert summarize([_record(1, 0.9, clients=facts)]).own_models == 0.75
    tested = Personalized(mean=0.7, per_client={1: 0.7})
    assert summarize([_record(1, 0.9, clients=facts, personalized=tested)]).own_models == 1.0
    assert summarize([_record(1, 0.9)]).own_models is None


@pytest.mark.parametrize("odd", ["abc", None, True, 5e6])
def test_what_no_accuracy_can_be_is_none_of_own_models(odd: object) -> None:
    facts = {0: {"local_accuracy": 0.5}, 1: {"local_accuracy": odd}}
    assert summarize([_record(1, 0.9, clients=facts)]).own_models == 0.5


def test_durations_that_no_clock_tells_are_none() -> None:
    spent = {"clients": {"train": [1e308, 2.0]}}
    assert _record(1, 0.9, seconds=spent).seconds.clients == {"train": [None, 2.0]}


def test_one_of_several_clients_is_no_mean_of_own_models() -> None:
    alone = {0: {"local_accuracy": 0.5}, 1: {"images": 0}}  # as in ``central``
    tested = Personalized(mean=0.7, per_client={0: 0.6, 1: 0.8})
    assert summarize([_record(1, 0.9, clients=alone, personalized=tested)]).own_models is None


def test_the_numbers_are_those_of_the_model_that_is_kept() -> None:
    tail = GlobalMetrics(accuracy=0.4, macro_f1=0.4)
    history = [
        _record(1, 0.6, clients={0: {"local_accuracy": 0.2}}),
        _record(
            2,
            0.9,
            tail=tail,
            personalized=Personalized(mean=0.7, per_client={0: 0.7}),
            clients={0: {"local_accuracy": 0.5}},
        ),
        _record(
            3,
            0.8,
            tail=tail.model_copy(update={"accuracy": 0.1}),
            personalized=Personalized(mean=0.1, per_client={0: 0.1}),
            clients={0: {"local_accuracy": 1.0}},
        ),
    ]
    best = RunResult(status="finished", seconds=1.0, best_round=2, model_round=2)
    kept = summarize(history, best)
    assert (kept.rounds, kept.model_round) == (3, 2)
    assert (kept.accuracy, kept.macro_f1, kept.tail_accuracy) == (0.9, 0.45, 0.4)
    assert (kept.personalized, kept.personalized_worst, kept.own_models) == (0.7, 0.7, 0.5)
    last = summarize(history, best.model_copy(update={"model_round": 3}))
    assert (last.accuracy, last.tail_accuracy, last.own_models) == (0.8, 0.1, 1.0)
    # One that goes on, failed or was stopped keeps nothing; earlier versions chose nothing.
    for result in (None, RunResult(status="stopped", seconds=1.0)):
        assert summarize(history, result).model_round == 3
        assert summarize(history, result).accuracy == 0.8
    # Who was measured at the clients only before, was so by an earlier model: it is the nearest.
    assert summarize([*history[:2], _record(3, 0.8)]).personalized == 0.7
    first = best.model_copy(update={"model_round": 1})
    assert summarize(history, first).personalized is None


def test_summary_of_nothing() -> None:
    summary = summarize([])
    assert (summary.rounds, summary.accuracy, summary.rounds_to_target) == (0, None, None)


def test_a_client_that_misses_a_round_keeps_its_last_row() -> None:
    history = [_record(1, 0.1, quotas=[[1], None]), _record(2, 0.1, quotas=[None, [4]])]
    assert latest_rows(history, "quotas") == [[1], [4]]


def test_the_largest_row_is_the_first_of_its_size() -> None:
    history = [
        _record(1, 0.1, quotas=[[1, 0], None]),
        _record(2, 0.1, quotas=[[2, 3], None]),
        _record(3, 0.1),
        _record(4, 0.1, quotas=[[3, 2], [0, 0]]),
    ]
    assert largest_rows(history, "quotas") == [[2, 3], [0, 0]]
    assert largest_rows([], "quotas") == []


def test_interval_of_one_value_is_unknown() -> None:
    assert mean_interval([0.5]).half is None


def test_an_interval_reads_as_mean_and_half_width() -> None:
    assert mean_interval([0.5]).text(100) == "50.0"
    assert mean_interval([0.5, 0.5]).text(100) == "50.0 ± 0.0"
    assert Interval(1.0, 0.126, 3).text(digits=2) == "1.00 ± 0.13"


@pytest.mark.parametrize("count", [2, 3, 5, 11, 12, 30])
def test_interval_is_students(count: int) -> None:
    from scipy.stats import t

    values = [float(value) for value in range(count)]
    deviation = ((count * (count + 1)) / 12) ** 0.5
    expected = t.ppf(0.975, count - 1) * deviation / count**0.5
    interval = mean_interval(values)
    assert interval.mean == pytest.approx((count - 1) / 2)
    assert interval.half == pytest.approx(expected, rel=1e-9)
