"""What a run's folder says of its end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.runs.folder import RunFolder
from server_app.run_end import record_run_end


def test_the_seconds_of_a_run_count_from_its_first_line_on(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    with record_run_end(folder, lambda _: None, time.monotonic() - 100.0):
        pass
    result = folder.read_result()
    assert result is not None and 100.0 <= result.seconds < 200.0


def test_a_run_that_another_process_has_just_finished_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    with record_run_end(folder, lambda _: None, time.monotonic()):
        pass
    finished = folder.read_result()
    with (
        pytest.raises(RunError, match="that run is finished, nothing is left to do"),
        record_run_end(folder, lambda _: None, time.monotonic()),
    ):
        raise AssertionError("it is run again")
    assert folder.read_result() == finished
