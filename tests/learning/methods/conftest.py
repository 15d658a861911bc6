"""Methods are held against formulas here: in fp32, also on a machine that trains in bf16."""

from __future__ import annotations

import pytest

from regl_app.learning.training import loop


@pytest.fixture(autouse=True)
def _fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "trains_fast_in_bf16", lambda device: False)
