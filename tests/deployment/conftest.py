"""A deployment on loopback as docs/deploy.md describes it: TLS, registered keys, free ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from regl_app.config import Scalar
from regl_app.credentials import Credentials, make_credentials
from regl_app.processes import descendants, end_processes

APP = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def node_config(values: Mapping[str, Scalar]) -> str:
    """Return values in the form of ``--node-config`` and ``-c``."""

    def text(value: Scalar) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return f"'{value}'" if isinstance(value, str) else str(value)

    return " ".join(f"{key}={text(value)}" for key, value in values.items())


@dataclass
class Deployment:
    """A SuperLink, its SuperNodes, and the ``flwr`` command that talks to it."""

    folder: Path
    keys: Credentials
    port: int = field(default_factory=free_port)
    free_port = staticmethod(free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FLWR_HOME": str(self.folder / "flwr"),
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start_superlink(self) -> None:
        keys = self.keys
        self.start(
            "superlink", "flower-superlink", "--host", "127.0.0.1", "--port", str(self.port),
            "--ssl-ca-certfile", str(keys.ca), "--ssl-certfile", str(keys.server),
            "--ssl-keyfile", str(keys.server_key), "--enable-supernode-auth",
            "--database", str(self.folder / "superlink.db"),
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.processes["superlink"].poll() is None, self.log("superlink")
            time.sleep(0.2)
        raise AssertionError(f"no SuperLink: {self.log('superlink')}")

    def register(self, name: str) -> None:
        self.flwr("supernode", "register", f"{self.keys.node_key(name)}.pub", "site")

    def start_node(self, name: str, **values: Scalar) -> subprocess.Popen[bytes]:
        return self.start(
            name, "flower-supernode", "--root-certificates", str(self.keys.ca),
            "--auth-supernode-private-key", str(self.keys.node_key(name)),
            "--superlink", f"127.0.0.1:{self.port}", "--port", str(free_port()),
            "--node-config", node_config({k.replace("_", "-"): v for k, v in values.items()}),
        )  # fmt: skip

    def flwr(self, *arguments: str) -> str:
        done = subprocess.run(
            [BIN / "flwr", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def run(self, **settings: Scalar) -> str:
        """Submit the app, follow it to its end and return its log."""
        return self.flwr("run", str(APP), "site", "--stream", "-c", node_config(settings))

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            children = descendants(process.pid)
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            end_processes(children)


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Return what starts a SuperLink with keys for the named nodes, for the length of a test."""
    started: list[Deployment] = []

    def start(*nodes: str) -> Deployment:
        keys, _ = make_credentials(tmp_path / "keys", ["localhost", "127.0.0.1"], nodes)
        deployment = Deployment(tmp_path, keys)
        started.append(deployment)
        home = tmp_path / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "site"\n\n[superlink.site]\n'
            f'address = "127.0.0.1:{deployment.port}"\nroot-certificates = "{keys.ca}"\n'
        )
        deployment.start_superlink()
        return deployment

    yield start
    for deployment in started:
        deployment.stop()
