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


@pytest.mark.parametrize("cut", [KeyboardInterrupt, SystemExit])
def test_who_leaves_while_a_run_is_submitted_is_told_that_it_may_go_on(
    cut: type[BaseException], deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*_: object, **__: object) -> None:
        raise cut

    with pytest.raises(cut):
        deployed(ask=ask)
    told = capsys.readouterr().err
    assert "may have been accepted and go on there (flwr list site; flwr stop RUN site)" in told


def test_a_submission_without_an_answer_says_that_the_run_may_go_on(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FlowerCommand.ask

    def late(self: FlowerCommand, *arguments: str, timeout: float = 1.0) -> Any:
        return original(self, arguments[0], timeout=0.5)

    monkeypatch.setattr(FlowerCommand, "command", lambda *_: ["sleep", "20"])
    with pytest.raises(RunError, match=r"did not answer in 0\.5 s.*may have been accepted.*list"):
        deployed(ask=late)


def test_a_refused_submission_does_not(deployed: Deployed) -> None:
    def ask(*_: object, **__: object) -> None:
        raise RunError("flwr run failed: no such federation")

    with pytest.raises(RunError, match=r"no such federation$"):
        deployed(ask=ask)
