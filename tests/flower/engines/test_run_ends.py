"""What a run ended by is said so that one knows what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.flower.engines import flower_run as runner
from regl_app.flower.engines.command import FlowerCommand
from regl_app.flower.engines.flower_run import run_deployed

Deployed = Callable[..., None]


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Deployed:
    """Return what runs at a SuperLink that ends a run with ``details``, or submits by ``ask``."""

    def run(details: str = "", ask: Callable[..., Any] | None = None) -> None:
        answer = ask or (lambda self, *_, **__: {"run-id": 77})
        monkeypatch.setattr(FlowerCommand, "ask", answer)
        monkeypatch.setattr(runner, "build_app_folder", lambda path: Path(path).mkdir())
        monkeypatch.setattr(runner, "follow", lambda *_, **__: ("finished:failed", details))
        run_deployed(RunConfig.from_flat({}), "site", lambda _: None)

    return run


def test_a_machine_that_slept_is_named_with_a_remedy(deployed: Deployed) -> None:
    with pytest.raises(RunError, match=r"for a minute: .* slept.* --resume FOLDER.*\(No heartbeat"):
        deployed("No heartbeat received from the task")
