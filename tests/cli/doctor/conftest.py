"""What ``regl doctor`` would count for seconds, where a test is about something else."""

from __future__ import annotations

import pytest

from regl_app.cli.doctor import memory
from regl_app.cli.doctor.finding import Finding


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no memory counted."""
    monkeypatch.setattr(memory, "expected_memory", lambda *_: Finding("memory", "ok", "so much"))
