"""The demo in containers of its own, wherever an engine answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from regl_app.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Demo:
    """``make docker-demo`` with its own project, data, keys and run folder."""

    folder: Path
    project: str = field(default_factory=lambda: f"regl-test-{uuid.uuid4().hex[:8]}")

    @property
    def image(self) -> str:
        return os.environ.get("REGL_IMAGE", "regl-app")

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "REGL_LISTEN": "127.0.0.1:0",  # any free port
            "REGL_DATA": str(self.folder / "data" / "digits"),
            "REGL_KEYS": str(self.folder / "keys"),
            "REGL_RUNS": str(self.folder / "runs"),
        }

    def start(self, *settings: str, **variables: str) -> subprocess.Popen[str]:
        """Start the demo; its output is one stream of lines."""
        return subprocess.Popen(
            ["make", "docker-demo", f"RUN={' '.join(settings)}"],
            cwd=ROOT,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
        )

    def engine(self, *arguments: str) -> str:
        """Return what ``docker`` answers."""
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, env=self.environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        labels = (f"project={self.project}", f"service={service}")
        filters = [part for value in labels for part in ("-f", f"label=com.docker.compose.{value}")]
        (found,) = self.engine("ps", "-aq", *filters).split()
        return found

    def address(self, service: str, network: str = "") -> str:
        """Return a service's address in one of its networks, or the port published here."""
        container = self.container(service)
        if not network:
            return self.engine("port", container, "8000/tcp").split()[0]
        (state,) = json.loads(self.engine("inspect", container))
        found: str = state["NetworkSettings"]["Networks"][f"{self.project}_{network}"]["IPAddress"]
        return found

    def python(self, service: str, code: str, *arguments: str) -> Any:
        """Return what ``code`` prints as JSON inside a service's container."""
        container = self.container(service)
        return json.loads(self.engine("exec", container, "python", "-c", code, *arguments))

    def left_over(self) -> str:
        """Return containers, volumes and networks that are still there."""
        mark = f"label=com.docker.compose.project={self.project}"
        kinds = (("ps", "-a"), ("volume", "ls"), ("network", "ls"))
        return "".join(self.engine(*kind, "-q", "--filter", mark) for kind in kinds)

    def run_folder(self) -> RunFolder:
        """Return the one run's folder on this machine."""
        (path,) = (self.folder / "runs").iterdir()
        return RunFolder.open(path)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Return the demo, taken down afterwards; skip where there is no engine to run it."""
    if shutil.which("docker") is None:
        pytest.skip("THE DOCKER DEMO WAS NOT RUN: no 'docker' on this machine")
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"THE DOCKER DEMO WAS NOT RUN: no engine answers: {answer.stderr.strip()}")
    made = Demo(tmp_path)
    yield made
    subprocess.run(
        ["docker", "compose", "-p", made.project, "down", "--volumes", "--remove-orphans"],
        capture_output=True,
    )
