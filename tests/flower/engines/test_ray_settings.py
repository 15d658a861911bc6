"""A run's Ray is its own: nobody else's cluster is joined, and its files go with the run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from regl_app.core.errors import StorageError
from regl_app.flower.engines import ray_settings
from regl_app.flower.engines.ray_settings import ray_environment, tell_small_shared_memory
from regl_app.flower.engines.superlink import SuperLink

SHORT, LONG = Path("/tmp/regl-flwr-abcdefgh"), Path("/scratch/users/somebody/jobs/1234567/tmp")


def test_two_runs_have_a_cluster_and_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # a cluster that has not our code
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    assert ray_environment(SHORT) == {"RAY_ADDRESS": "local", "RAY_TMPDIR": str(SHORT)}
    monkeypatch.setattr(ray_settings, "_short", lambda scratch: scratch)
    environment = SuperLink(tmp_path / "home").environment
    assert environment["RAY_ADDRESS"] == "local"
    assert environment["RAY_TMPDIR"] == str(tmp_path)


def test_the_users_own_folder_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/fast")
    assert ray_environment(LONG) == {"RAY_ADDRESS": "local"}


def test_sockets_are_where_their_paths_are_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    assert ray_environment(LONG)["RAY_TMPDIR"] == "/tmp"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert ray_environment(SHORT)["RAY_TMPDIR"] == str(SHORT)
    with pytest.raises(StorageError, match=r"too long for Ray's sockets.*set RAY_TMPDIR to a fol"):
        ray_environment(LONG)


def test_the_longest_path_that_is_taken_leaves_room_for_rays_sockets() -> None:
    taken = Path("/" + "x" * (ray_settings._LONGEST - 1))
    session = "session_2026-12-31_23-59-59_999999_4194304"  # the highest process id
    assert len(str(taken / "ray" / session / "sockets" / "plasma_store")) <= 107


@pytest.mark.parametrize(("free", "told"), [(64 * 10**6, 1), (10**9, 0)])
def test_dockers_shared_memory_is_told_to_be_small(
    free: int,
    told: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="regl")
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr(ray_settings, "_SHM", tmp_path)
    tell_small_shared_memory()
    assert len(caplog.messages) == told
    assert ("has 64 MB left: Ray keeps messages in files" in caplog.text) == bool(told)
    monkeypatch.setattr(ray_settings, "_SHM", tmp_path / "absent")
    tell_small_shared_memory()
    assert len(caplog.messages) == told
