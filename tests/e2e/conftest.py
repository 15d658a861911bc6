"""The real Flower runtime, watched for what it leaves behind."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core.types import Scalar

_MARK = "REGL_TEST_MARK"


def marked_processes(mark: str) -> dict[int, str]:
    """Return living processes' command lines by id, other than this, that inherited ``mark``."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            if f"{_MARK}={mark}".encode() in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(entry.name)] = command
        except OSError:
            continue  # it ended meanwhile, or is not ours
    return found


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder that holds another app with our packages' names; leave no process behind."""
    for package in ("client_app", "server_app", "regl_app"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('the wrong app')\n")
    mark = uuid.uuid4().hex
    monkeypatch.setenv(_MARK, mark)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    deadline = time.monotonic() + 60  # on a busy machine Ray's last process takes its time
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


@pytest.fixture
def started(elsewhere: Path) -> Callable[[], dict[int, str]]:
    """Return what lists all living processes that a test has started, as command lines by id."""
    assert elsewhere.is_dir()
    return lambda: marked_processes(os.environ[_MARK])


@pytest.fixture(scope="session")
def small(second_pipeline: Path, small_settings: dict[str, Scalar]) -> Callable[..., RunConfig]:
    """Return what makes a small configuration on a tiny untrained generator."""

    def make(**changes: Scalar) -> RunConfig:
        own = {"generator.path": str(second_pipeline)}
        return RunConfig.from_flat({**small_settings, **own, **changes})

    return make
