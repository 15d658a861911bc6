"""A SuperLink of one's own for one run: own port, own state, gone afterwards.

The one that ``flwr run`` manages outlives the run with the environment, code path and working
directory of whoever started it first, is shared by all users of its port and has no command that
stops it.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from regl_app.core.errors import RunError
from regl_app.core.ports import free_port
from regl_app.core.processes import (
    carrying,
    descendants,
    end_processes,
    of_program,
    started_at,
    wait_until_gone,
)
from regl_app.flower.engines.command import FlowerCommand, find_program
from regl_app.flower.engines.interrupts import not_cut_short
from regl_app.flower.engines.ray_settings import ray_environment
from regl_app.flower.engines.workdir import RAY_SETTINGS

CONNECTION = "regl"
START_TIMEOUT = 90.0

_SUPEREXEC = "flower-superexec"

# The user's own environment wins over these.
_DEFAULTS = {
    # Dependencies are those of this environment: no installation at run time.
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    **RAY_SETTINGS,
    "RAY_COLOR_PREFIX": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    # Ray's own 15 starves the clients wherever anything else runs.
    "RAY_worker_niceness": "5",
}


class SuperLink(FlowerCommand):
    """A ``flower-superlink --simulation`` child process, alive while the context is open.

    Args:
        home: an empty folder for Flower's configuration, state and bundles; beside it Ray has its.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "superlink.log"
        own = {key: value for key, value in _DEFAULTS.items() if key not in os.environ}
        own |= ray_environment(home.parent)
        super().__init__(CONNECTION, own | {"FLWR_HOME": str(home)})
        self._process: subprocess.Popen[bytes] | None = None
        self._superexec: dict[int, str] = {}

    def __enter__(self) -> Self:
        port = free_port()
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f'address = "127.0.0.1:{port}"\ninsecure = true\n',
            encoding="utf-8",
        )
        command = [
            find_program("flower-superlink"), "--insecure", "--simulation",
            "--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port),
            "--log-file", str(self.log),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach us alone, to stop the run in order
        )
        try:
            self._wait_until_ready(port, self._process.pid)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def log_tail(self, lines: int = 5) -> str:
        """Return the end of the SuperLink's log, for error messages."""
        if not self.log.is_file():
            return ""
        tail = self.log.read_text(errors="replace").strip().splitlines()[-lines:]
        return "".join(f"\n  superlink: {line}" for line in tail)

    def is_running(self) -> bool:
        """Return whether the process is alive, and the one that it has start its tasks.

        It itself does not look after that one: what runs ends, and what is pending stays so.
        """
        if self._process is None or self._process.poll() is not None:
            return False
        return not self._superexec or any(
            started_at(pid) == started for pid, started in self._superexec.items()
        )

    def _wait_until_ready(self, port: int, pid: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if not self.is_running():
                raise RunError(f"flower-superlink ended at once{self.log_tail()}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        else:
            late = f"flower-superlink was not ready in {START_TIMEOUT:g} s{self.log_tail()}"
            raise RunError(late)
        # It is started before the SuperLink answers. One that runs by another name is not known.
        children = descendants(pid)
        self._superexec = of_program(_SUPEREXEC, children)
        if not children and started_at(pid) is not None:
            raise RunError(f"{_SUPEREXEC} ended at once{self.log_tail()}")

    def _stop(self) -> None:
        if self._process is not None:
            # The folder that its processes work in is removed next.
            with not_cut_short("closing: the run's processes are being ended"):
                self._end(self._process)
            self._process = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        processes = descendants(process.pid)
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Whose parent had ended before: all of them were started with a home that is this one's.
        processes |= carrying("FLWR_HOME", str(self.home))
        # The others watch their parent and end by themselves, mostly.
        if not wait_until_gone(processes, 3.0):
            end_processes(processes)


def simulation_options(values: Sequence[tuple[str, object]]) -> str:
    """Return ``values`` in the form of ``--federation-config``."""
    return " ".join(f"{key}={value}" for key, value in values)
