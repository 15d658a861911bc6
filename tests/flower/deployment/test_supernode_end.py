"""``regl-supernode`` ends where it could answer nothing any more, as a real process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regl_app.core.processes import descendants, end_processes

STAYS = "#!/bin/sh\necho $$ > $FLWR_HOME/pid\nexec sleep 600\n"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Return what starts a node, of a SuperLink that is away, with a ``flower-superexec``."""
    started: list[subprocess.Popen[str]] = []

    def start(superexec: str) -> subprocess.Popen[str]:
        (tmp_path / "bin").mkdir()
        if superexec:
            program = tmp_path / "bin" / "flower-superexec"
            program.write_text(superexec)
            program.chmod(0o755)
        with socket.socket() as free, socket.socket() as away:
            free.bind(("127.0.0.1", 0))
            away.bind(("127.0.0.1", 0))
            ports = [str(one.getsockname()[1]) for one in (free, away)]
        node = subprocess.Popen(
            [
                *(sys.executable, "-m", "regl_app.flower.deployment.supernode"),
                *("--insecure", "--port", ports[0], "--superlink", f"127.0.0.1:{ports[1]}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ
            | {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "FLWR_HOME": str(tmp_path)}
            | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"},
            text=True,
        )
        started.append(node)
        return node

    yield start
    for node in started:
        end_processes(descendants(node.pid))
        node.kill()
        node.communicate()


@pytest.mark.parametrize(
    ("superexec", "why"),
    [
        ("#!/bin/sh\nexit 3\n", "flower-superexec has ended (exit status 3)"),
        ("#!/bin/sh\nkill -9 $$\n", "flower-superexec has ended (killed by signal 9)"),
        ("", "FileNotFoundError"),
    ],
    ids=["failed", "killed", "absent"],
)
def test_without_its_superexec(
    start: Callable[[str], subprocess.Popen[str]], superexec: str, why: str
) -> None:
    node = start(superexec)
    _, said = node.communicate(timeout=60)
    assert node.returncode == 1
    (line,) = [line for line in said.splitlines() if "Start this SuperNode again" in line]
    assert why in line


def test_it_ends_in_order_also_if_the_superexec_is_told_first(
    start: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    node = start(STAYS)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    time.sleep(0.2)
    node.terminate()
    _, said = node.communicate(timeout=60)
    assert node.returncode == 0
    assert "again" not in said
