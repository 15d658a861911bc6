"""What is only looked at fails no run that has learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from regl_app.runs.folder import RunFolder


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("server_app.artifacts.features", "no picture of the features: RuntimeError: no memory"),
        ("server_app.artifacts.save_features", "no picture of the features: RuntimeError"),
        ("regl_app.runs.report.build.build_report", "no report: RuntimeError: no memory"),
    ],
)
def test_a_run_that_learned_ends_well(
    federate: Callable[..., RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
    said: str,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(what, broken)
    folder = federate(rounds=1, report=True, clients=2)
    result = folder.read_result()
    assert result is not None and result.status == "finished"
    assert said in caplog.text


def test_a_run_that_goes_on_after_its_last_round_says_what_its_picture_lacks(
    federate: Callable[..., RunFolder], caplog: pytest.LogCaptureFixture
) -> None:
    folder = federate(rounds=1, clients=2)
    file = folder.path / "features.npz"
    whole = file.read_bytes()
    for there in (True, False):
        (folder.path / "result.json").unlink()
        if not there:
            file.unlink()
        federate(rounds=1, clients=2, resume=str(folder.path))
        assert (file.read_bytes() == whole) is there
        assert ("features.npz is of the global model alone" in caplog.text) is not there
