"""Temporary folders: made and removed, or said what keeps them from being made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from regl_app.core.errors import StorageError
from regl_app.core.scratch import private_folder, scratch_folder


def test_it_is_in_the_wanted_folder_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with scratch_folder("regl-") as folder:
        assert folder.parent == tmp_path and folder.is_dir()
        (folder / "file").touch()
    assert not folder.exists()


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    with (
        pytest.raises(StorageError, match=r"TMPDIR=.*absent cannot be written \(set TMPDIR to"),
        scratch_folder("regl-"),
    ):
        pass


def test_too_little_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=3 * 10**6))
    told = r": 3 MB are left for temporary files, a run needs 100 \(free some space there, or set"
    with pytest.raises(StorageError, match=told), scratch_folder("regl-", 100):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_private_folder_is_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = private_folder("regl-own")
    assert folder == private_folder("regl-own") == tmp_path / "regl-own"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(StorageError, match="not a folder of this user alone"):
        private_folder("regl-own")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="not a folder of this user alone"):
        private_folder("link")
    (tmp_path / "file").touch(mode=0o600)
    with pytest.raises(StorageError, match=f"{os.sep}file: cannot be made"):
        private_folder("file")
