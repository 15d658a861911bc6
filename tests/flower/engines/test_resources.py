"""What a client reserves must be there, and reaches Ray; said before anything is started."""

from __future__ import annotations

import os

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError
from regl_app.flower.engines.flower_run import run_flower
from regl_app.flower.engines.resources import check_resources
from regl_app.flower.engines.workdir import RAY_SETTINGS


@pytest.mark.parametrize(
    ("cpus", "gpus", "there"), [(1, 0.0, 0), (1, 0.25, 1), (1, 1.0, 1), (1, 2.0, 4)]
)
def test_what_fits_is_allowed(cpus: float, gpus: float, there: int) -> None:
    check_resources(cpus, gpus, gpus=there)


@pytest.mark.parametrize(
    ("cpus", "gpus", "there", "why"),
    [
        (0.5, 0.0, 0, "CPUs per client must be a whole number >= 1, got 0.5"),
        (10_000, 0.0, 0, f"CPUs per client must be at most the {os.cpu_count()} of this machine"),
        (1, 0.2, 0, "at most the 0 of this machine, got 0.2 .--client-gpus 0 runs on"),
        (1, 2.0, 1, "at most the 1 of this machine, got 2"),
        (1, 1.5, 4, "a fraction of 1 or a whole number, got 1.5"),
        (1, -1.0, 4, "GPUs per client must be 0, a fraction"),
    ],
)
def test_what_does_not_fit_is_refused(cpus: float, gpus: float, there: int, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check_resources(cpus, gpus, gpus=there)


def test_a_run_with_a_gpu_that_is_not_there_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"at most the 0 of this machine, got 0\.5"):
        run_flower(RunConfig(), clients=2, client_gpus=0.5)


def test_ray_keeps_no_history_of_tasks_and_hides_no_gpu() -> None:
    assert RAY_SETTINGS["RAY_task_events_report_interval_ms"] == "0"
    assert RAY_SETTINGS["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] == "0"
