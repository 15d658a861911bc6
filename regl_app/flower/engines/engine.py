"""The engines by name: the real Flower runtime, or its Grid in-process."""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.core.errors import ReglError
from regl_app.flower.engines.resources import check_resources, places_in_process
from regl_app.runs.comparison.compare import Engine


class EngineName(StrEnum):
    """Both run the same ServerApp and ClientApp objects."""

    FLWR = "flwr"
    IN_PROCESS = "in-process"


def make_engine(name: EngineName, *, client_cpus: int = 1, client_gpus: float = 0.0) -> Engine:
    """Return the engine called ``name``; the result of a run does not depend on either number.

    Raises:
        ConfigError: GPUs are asked for that this machine does not have.
    """
    if client_gpus:
        check_resources(client_cpus, client_gpus)

    def flower(config: RunConfig, clients: int) -> Path:
        from regl_app.flower.engines.flower_run import run_flower

        return run_flower(config, clients=clients, client_cpus=client_cpus, client_gpus=client_gpus)

    def in_process(config: RunConfig, clients: int) -> Path:
        from regl_app.flower.engines.in_process import clients_at_work, run_in_process

        workers = places_in_process(config, client_cpus, client_gpus)
        try:
            return run_in_process(config, clients=clients, workers=workers)
        except KeyboardInterrupt as stop:
            if clients_at_work():  # nobody waits for them any more
                if (failure := _failure_before(stop)) is not None:
                    sys.stderr.write(f"Error: {failure}\n")
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(128 + signal.SIGINT)
            raise

    return flower if name is EngineName.FLWR else in_process


def _failure_before(stop: BaseException) -> ReglError | None:
    """Return why the run had failed that Ctrl-C left while it was being closed."""
    before = stop.__context__
    while before is not None and not isinstance(before, ReglError):
        before = before.__context__
    return before
