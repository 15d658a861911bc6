"""What a client reserves must be there, and reaches Ray; said before anything is started."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar
from regl_app.flower.engines.engine import EngineName, make_engine
from regl_app.flower.engines.flower_run import run_flower
from regl_app.flower.engines.resources import (
    cards_of,
    check_resources,
    places_in_process,
    reserved_cpus,
    reserved_gpus,
)
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
        (
            10_000,
            0.0,
            0,
            r"CPUs per client must be at most the \d+ that this process may use, got 10000",
        ),
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
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 0)
    with pytest.raises(ConfigError, match=r"at most the 0 of this machine, got 0\.5"):
        run_flower(RunConfig(), clients=2, client_gpus=0.5)


def test_ray_keeps_no_history_of_tasks_and_hides_no_gpu() -> None:
    assert RAY_SETTINGS["RAY_task_events_report_interval_ms"] == "0"
    assert RAY_SETTINGS["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] == "0"


def run(**keys: Scalar) -> RunConfig:
    return RunConfig.from_flat({"method": "regl", "generator.path": "owner/large", **keys})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of two GPUs and sixteen processors."""
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 2)
    monkeypatch.setattr("regl_app.flower.engines.resources.usable_processors", lambda: 16)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("keys", "cpus", "gpus", "places"),
    [
        ({}, 1, 0.0, 2),  # one generator on each GPU, not sixteen on the first
        ({"device": "cuda"}, 1, 0.0, 2),
        ({"device": "cuda:1"}, 1, 0.0, 1),
        ({}, 1, 1.0, 2),
        ({}, 1, 0.5, 4),
        ({}, 1, 0.33, 6),
        ({}, 8, 0.1, 2),  # there are no more processors
        ({"device": "cpu"}, 1, 0.0, 16),
        ({"device": "cpu", "threads": 4}, 1, 0.0, 4),
        ({"method": "fedavg"}, 1, 0.0, 16),  # nothing large is held
        ({"method": "fedavg"}, 1, 0.25, 8),
        ({"generator.path": "bundled"}, 1, 0.0, 16),
    ],
)
def test_threads_of_a_process_are_as_many_as_its_gpus_hold(
    keys: dict[str, Scalar], cpus: int, gpus: float, places: int
) -> None:
    assert places_in_process(run(**keys), cpus, gpus) == places


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("keys", "cpus", "gpus", "reserved"),
    [
        ({}, 1, 0.0, 1.0),
        ({}, 1, 0.25, 0.25),
        ({"device": "cpu"}, 1, 0.0, 0.0),
        ({"device": "cuda:1"}, 1, 0.0, 0.0),
        ({"method": "fedavg"}, 1, 0.0, 0.125),  # sixteen at once, eight on each
        ({"method": "fedavg"}, 16, 0.0, 1.0),
        ({"generator.path": "bundled"}, 1, 0.0, 0.125),
    ],
)
def test_flower_is_told_what_a_client_reserves(
    keys: dict[str, Scalar], cpus: int, gpus: float, reserved: float
) -> None:
    assert reserved_gpus(run(**keys), cpus, gpus) == reserved


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("keys", "gpus", "reserved"),
    [
        ({"device": "cuda:1"}, 0.0, 16),  # Ray cannot count that card: sixteen would load there
        ({"device": "cuda:0"}, 0.0, 16),
        ({"device": "cuda:0"}, 0.5, 2),
        ({"device": "cuda"}, 0.0, 2),
        ({"device": "cpu"}, 0.0, 2),
        ({"device": "cuda:1", "method": "fedavg"}, 0.0, 2),
        ({"device": "cuda:1", "generator.path": "bundled"}, 0.0, 2),
    ],
)
def test_clients_with_a_generator_on_a_card_that_is_named_take_turns(
    keys: dict[str, Scalar], gpus: float, reserved: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="regl")
    assert reserved_cpus(run(**keys), 2, gpus) == reserved
    assert ("(device=cuda and --client-gpus 0.5 for two)" in caplog.text) == (reserved == 16)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("how", [places_in_process, reserved_gpus])
def test_gpus_that_a_run_does_not_use_are_not_reserved(how: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be 0 with device='cpu', .* got 0\.5 .set device="):
        how(run(device="cpu"), 1, 0.5)


@pytest.mark.usefixtures("machine")
def test_a_client_computes_on_one_gpu_and_finds_it() -> None:
    with pytest.raises(ConfigError, match=r"at most 1, got 2: a client computes on one"):
        places_in_process(run(), 1, 2.0)
    with pytest.raises(ConfigError, match=r"must be 0 with device='cuda:1', got 0\.5: each client"):
        reserved_gpus(run(device="cuda:1"), 1, 0.5)
    assert reserved_gpus(run(device="cuda:0"), 1, 0.5) == 0.5


@pytest.mark.usefixtures("machine")
def test_the_log_says_why_so_few_run_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="regl")
    places_in_process(run())
    assert "one client at a time on each of 2 GPUs, since each holds a generator" in caplog.text


def test_without_gpus_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 0)
    monkeypatch.setattr("regl_app.flower.engines.resources.usable_processors", lambda: 16)
    assert cards_of("auto") == range(0)
    assert places_in_process(run(), 3) == 5
    assert reserved_gpus(run(), 1, 0.0) == 0.0


@pytest.mark.usefixtures("machine")
def test_both_engines_honour_the_gpus_of_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "regl_app.flower.engines.in_process.run_in_process",
        lambda config, *, clients, workers: seen.append(workers),
    )
    make_engine(EngineName.IN_PROCESS, client_gpus=0.5)(run(), 10)
    assert seen == [4]

    def options(pairs: list[tuple[str, object]]) -> str:
        seen.append(dict(pairs)["client-resources-num-gpus"])
        raise InterruptedError

    monkeypatch.setattr("regl_app.flower.engines.flower_run.simulation_options", options)
    for gpus in (0.5, 0.0):
        with pytest.raises(InterruptedError):
            make_engine(EngineName.FLWR, client_gpus=gpus)(run(), 10)
    assert seen[1:] == [0.5, 1.0]


def test_gpus_that_are_not_there_are_refused_by_both_before_any_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 0)
    for name in EngineName:
        with pytest.raises(ConfigError, match=r"at most the 0 of this machine, got 0\.5"):
            make_engine(name, client_gpus=0.5)
