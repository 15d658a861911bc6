"""Numbers as people read them."""

from __future__ import annotations

import pytest

from regl_app.core.formats import NONE, duration, format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0 s"), (7.6, "8 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, NONE), (0.42, "0.4 s"), (41.6, "42 s"), (99.4, "99 s"), (185, "3 min 05 s")],
)
def test_measured_durations_are_finer(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
