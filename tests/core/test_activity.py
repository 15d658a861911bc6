"""Who does what, and for how long."""

from __future__ import annotations

import threading

import pytest

from regl_app.core import activity as module
from regl_app.core.activity import activity, current, note, phase


def test_time_is_counted_to_the_phase_that_took_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
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
