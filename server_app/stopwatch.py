"""Seconds per phase of a round."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Stopwatch:
    """Seconds per phase of a round."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._started = self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End the phase called ``name``."""
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now

    def move(self, name: str, parts: Mapping[str, float]) -> None:
        """Tell ``parts`` of the phase ``name`` apart from it."""
        self.laps |= parts
        self.laps[name] = max(0.0, self.laps[name] - sum(parts.values()))

    def total(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started
