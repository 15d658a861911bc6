"""Progress lines: readable durations, and not too many of them."""

from __future__ import annotations

import logging
import warnings

import pytest

from regl_app import progress
from regl_app.progress import format_seconds, log_progress, setup_logging


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0 s"), (7.6, "8 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_progress_is_logged_now_and_then_with_what_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(logging.getLogger("regl"), "propagate", True)
    report = log_progress("client 3", every=5.0)
    with caplog.at_level(logging.INFO, logger="regl"):
        for step in range(0, 101, 10):
            report("adapter steps", step, 100)
            now[0] += 2.0
        report("images", 1, 2)  # just begun: nothing to say yet
    assert [record.message for record in caplog.records] == [
        "client 3: adapter steps 30/100, about 14 s left",
        "client 3: adapter steps 60/100, about 8 s left",
        "client 3: adapter steps 90/100, about 2 s left",
    ]


def test_only_the_known_noise_of_a_library_is_silenced() -> None:
    noise = "__array__ implementation doesn't accept a copy keyword, so passing copy=False failed."
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        setup_logging()
        for text, module in (
            (noise, "diffusers.schedulers.x"),
            (noise, "mine"),
            ("y", "diffusers.x"),
        ):
            warnings.warn_explicit(text, DeprecationWarning, "file.py", 1, module=module)
    assert [str(each.message) for each in shown] == [noise, "y"]
