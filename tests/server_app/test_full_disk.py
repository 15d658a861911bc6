"""A disk that is really full, of the server or of a client: said, and nothing before it is lost."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.errors import StorageError
from regl_app.core.files import write_json
from regl_app.core.types import Scalar
from regl_app.flower.engines.flower_run import run_flower
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.folder import RunFolder
from server_app.exchange import exchange


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of two megabytes."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NO FULL DISK IS TESTED: mounting is not permitted ({done.stderr.strip()})")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left, and return the file that has it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (65536, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError:
                continue
    return filler


def full_in_round_two(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    calls = itertools.count(1)

    def filling(*arguments: Any) -> Any:
        replies = exchange(*arguments)
        if next(calls) == 3:  # the second round's training
            fill(disk)
        return replies

    monkeypatch.setattr("server_app.round_loop.exchange", filling)


@pytest.fixture
def config(small_settings: dict[str, Scalar]) -> Callable[..., RunConfig]:
    def make(name: str, out: Path, cache: Path, **changes: Scalar) -> RunConfig:
        own: dict[str, Scalar] = {"rounds": 3, "report": False, "name": name}
        folders: dict[str, Scalar] = {"out-dir": str(out), "cache-dir": str(cache)}
        return RunConfig.from_flat(small_settings | own | folders | changes)

    return make


def test_the_servers_run_stops_says_so_and_goes_on_when_there_is_room(
    config: Callable[..., RunConfig],
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = RunFolder.open(run_in_process(config("a", tmp_path, tmp_path / "c1"), clients=2))
    torn = config("b", disk, tmp_path / "c2")
    with monkeypatch.context() as patch:
        full_in_round_two(patch, disk)
        with pytest.raises(StorageError, match=r"history\.jsonl: cannot be written, its disk is"):
            run_in_process(torn, clients=2)
    folder = RunFolder.open(disk / "b")
    assert f"go on by resume='{folder.path}'" in caplog.text
    assert [record.round for record in folder.read_history()] == [0, 1]
    kept = folder.read_checkpoint()
    assert kept is not None and kept.round == 1
    (disk / "filler").unlink()
    resumed = RunFolder.open(run_in_process(torn.updated({"resume": str(folder.path)}), clients=2))
    assert [r.metrics for r in resumed.read_history()] == [r.metrics for r in whole.read_history()]
    assert all(
        torch.equal(value, whole.load_model()[name]) for name, value in resumed.load_model().items()
    )


def test_a_client_without_room_says_so_and_the_others_go_on(
    config: Callable[..., RunConfig], disk: Path, tmp_path: Path
) -> None:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

    from client_app.main import app

    def serve(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            context.node_config["state-dir"] = str(disk / "state")
        return app(message, context)

    clients = ClientApp()
    for register in (clients.query(), clients.train(), clients.evaluate()):
        register(serve)
    filler = fill(disk)
    assert os.statvfs(disk).f_bavail == 0
    run = RunFolder.open(
        run_in_process(
            config("a", tmp_path, tmp_path / "cache"), clients=2, client_app=clients, workers=1
        )
    )
    assert filler.exists()
    history = run.read_history()
    for record in history[1:]:
        assert list(record.clients) == [0]
        (failure,) = [text for text in record.failures if text.startswith("train")]
        assert "client 1: failed" in failure and str(disk / "state") in failure
        assert "its disk is full (free some space there" in failure


def test_a_read_only_disk_is_said_before_a_run_starts(
    config: Callable[..., RunConfig], disk: Path, tmp_path: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(StorageError, match=r"^out-dir='.*/disk/runs' cannot be written \(give"):
        run_in_process(config("a", disk / "runs", tmp_path / "cache"), clients=2)
    with pytest.raises(StorageError, match=r"^cache-dir='.*/disk/cache' cannot be written \("):
        run_in_process(config("a", tmp_path, disk / "cache"), clients=2)
    with pytest.raises(StorageError, match=r"x\.json: cannot be written: Read-only file system"):
        write_json(disk / "x.json", {})


def test_full_temporary_files_are_said_in_a_sentence(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(disk))
    with pytest.raises(StorageError, match=r"disk: 2 MB are left for temporary files, a run needs"):
        run_flower(RunConfig.from_flat({}), clients=1)
