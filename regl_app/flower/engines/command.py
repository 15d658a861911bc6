"""The ``flwr`` command and the SuperLink that it talks to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regl_app.core.errors import RunError
from regl_app.flower.deployment.gate import CONTROL_PORT

# The user's own environment wins over these.
_DEFAULTS = {"FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_TELEMETRY_ENABLED": "0"}

_CLOSED = (
    "the address of {!r} is a gate, which lets nodes in and nobody to the controls. On the "
    f"server's machine the address is 127.0.0.1:{CONTROL_PORT}; from elsewhere it is the same once "
    f"`ssh -N -L {CONTROL_PORT}:127.0.0.1:{CONTROL_PORT} SERVER` is running (docs/deploy.md)"
)


class NoAnswerError(RunError):
    """What was asked for may have been heard, and may be done yet."""


class FlowerCommand:
    """``flwr`` for one connection of Flower's configuration, e.g. ``site``.

    Args:
        connection: the name of a SuperLink there.
        environment: further variables, over the user's own.
    """

    def __init__(self, connection: str, environment: Mapping[str, str] | None = None) -> None:
        self.connection = connection
        self.environment = {
            **_DEFAULTS,
            **os.environ,
            # Flower starts its helpers by name: they must be this environment's.
            "PATH": os.pathsep.join([_scripts(), os.environ.get("PATH", "")]),
            **(environment or {}),
        }

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of ``flwr`` with ``arguments``."""
        return [find_program("flwr"), *arguments]

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``flwr`` with ``arguments``, its output to be read line by line."""
        return subprocess.Popen(
            self.command(*arguments),
            # To a pipe it would be written by the 8 kB.
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # Its own complaints: what they mean for the run is asked for afterwards.
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )

    def ask(self, *arguments: str, timeout: float = 120.0) -> dict[str, Any]:
        """Return what ``flwr ... --format json`` answers.

        Raises:
            NoAnswerError: it did not answer in time.
            RunError: it failed, or did not answer in JSON.
        """
        try:
            done = subprocess.run(
                self.command(*arguments, "--format", "json"),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            late = f"flwr {arguments[0]} did not answer in {timeout:g} s{self.log_tail()}"
            raise NoAnswerError(late) from error
        start = done.stdout.find("{")
        try:
            answer = json.loads(done.stdout[start:]) if start >= 0 else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not answer.get("success"):
            text = answer.get("error-message") if isinstance(answer, dict) else None
            why = text or (done.stderr or done.stdout).strip()[-2000:]
            if "403 Forbidden" in why:
                raise RunError(f"flwr {arguments[0]}: {_CLOSED.format(self.connection)}")
            # Flower's own patience is 30 s.
            kind = NoAnswerError if "timed out" in why else RunError
            raise kind(f"flwr {arguments[0]} failed: {why or 'no output'}{self.log_tail()}")
        return answer

    def log_tail(self, lines: int = 5) -> str:
        """Return the end of the SuperLink's log, for error messages; '' where it is elsewhere."""
        return ""

    def is_running(self) -> bool:
        """Return whether the SuperLink is alive, as far as can be known from here."""
        return True


def find_program(name: str) -> str:
    """Return the path of one of Flower's programs.

    Raises:
        RunError: it is not installed.
    """
    found = shutil.which(name, path=os.pathsep.join([_scripts(), os.environ.get("PATH", "")]))
    if found is None:
        raise RunError(f"the program {name!r} is not installed (pip install 'flwr[simulation]')")
    return found


def _scripts() -> str:
    return str(Path(sys.executable).parent)
