"""Who does what, and for how long."""

from __future__ import annotations

import threading

import pytest

from regl_app.core import activity as module
from regl_app.core.activity import Span, activity, current, note, phase, timed


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the clock's only reading, to be moved."""
    reading = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: reading[0])
    return reading


def test_time_is_counted_to_the_phase_that_took_it(now: list[float]) -> None:
    with activity("clinic-a", "train", 2) as done:
        now[0] += 1
        phase("adapt")
        now[0] += 10
        phase("train", 3)
        now[0] += 100
        note(images=7)
    assert done.seconds == {"train": 101.0, "adapt": 10.0}
    assert (done.round, done.counts) == (3, {"images": 7})


def test_each_thread_has_its_own_and_none_is_left_behind() -> None:
    seen: list[object] = []
    with activity("server", "aggregate"):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
        now = current()
        assert now is not None and now.who == "server"
    phase("train")  # outside of any activity: nothing to tell
    note(images=1)
    assert seen == [None] and current() is None


def test_a_timed_block_tells_its_seconds_and_the_phase_from_before_goes_on(
    now: list[float],
) -> None:
    with activity("clinic-a", "train", 2) as done:
        now[0] += 1
        with timed("adapt") as adapting:
            now[0] += 10
            assert (done.phase, adapting.seconds) == ("adapt", 10.0)
            with timed("prefer") as preferring:
                now[0] += 100
        assert done.phase == "train"
        now[0] += 1000
    assert (adapting.seconds, preferring.seconds) == (110.0, 100.0)
    assert done.seconds == {"train": 1001.0, "adapt": 10.0, "prefer": 100.0}


def test_a_block_without_a_name_is_measured_and_no_phase(now: list[float]) -> None:
    with activity("server", "start") as done, timed() as whole:
        phase("train")
        now[0] += 1
    assert (whole.seconds, done.phase) == (1.0, "train")
    with timed("train") as alone:  # outside of any activity: measured all the same
        now[0] += 2
    assert (alone.seconds, current()) == (2.0, None)


def test_a_block_that_fails_leaves_its_phase_for_the_line_that_tells(now: list[float]) -> None:
    with activity("server", "start") as done:
        with pytest.raises(ValueError, match="boom"), timed("train") as training:
            now[0] += 3
            raise ValueError("boom")
        now[0] += 4
        assert (done.phase, training.seconds) == ("train", 3.0)


def test_a_span_goes_on_until_it_is_stopped(now: list[float]) -> None:
    span = Span()
    now[0] += 1
    assert span.seconds == 1.0
    span.stop()
    now[0] += 1
    span.stop()
    assert span.seconds == 1.0
