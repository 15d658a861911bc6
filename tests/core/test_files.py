"""Files are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
from pathlib import Path

import pytest

from regl_app.core.errors import StorageError
from regl_app.core.files import (
    atomic_path,
    exclusive,
    folder_bytes,
    remove_leftovers,
    sha256_file,
    storing,
    why_not_written,
    write_json,
    write_text,
)


def test_a_write_makes_parents_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.txt"
    write_text(target, "grün")
    assert target.read_text(encoding="utf-8") == "grün"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(target, {"a": float("nan")})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(target.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [entry.name for entry in (tmp_path / "folder").iterdir()] == ["new"]


def test_a_failed_folder_keeps_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "folder") as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_the_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_where_no_lock_can_be_had_the_work_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of the lock's folder")
    with exclusive(tmp_path / "file" / "probe"):
        done = True
    assert done


def test_the_second_waits_until_the_first_has_made_it(tmp_path: Path) -> None:
    order: list[str] = []
    held = threading.Event()

    def first() -> None:
        with exclusive(tmp_path / "a"):
            held.set()
            time.sleep(0.2)
            order.append("first")

    worker = threading.Thread(target=first)
    worker.start()
    held.wait()
    with exclusive(tmp_path / "a"):
        order.append("second")
    worker.join()
    assert order == ["first", "second"]


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "a.b.set"
    stays = {"a.b.set", ".a.b.12-0123abcd.npy", ".a.c.12-0123abcd.set", ".a.b.set.lock"}
    stays |= {".a.b.x.12-0123abcd.set", ".a.b.12-0123abc.set"}
    for name in {*stays, ".a.b.7-0123abcd.set"}:
        (tmp_path / name).touch()
    (tmp_path / ".a.b.12-0123abcd.set").mkdir()
    (tmp_path / ".a.b.12-0123abcd.set" / "pixels.npy").touch()
    with exclusive(path) as alone:
        assert alone
        remove_leftovers(path)
        with atomic_path(path) as temporary:  # so they are called
            temporary.touch()
            assert len(list(tmp_path.glob(".a.b.*-*.set"))) == 3
            remove_leftovers(path)
            assert not temporary.exists()
            temporary.touch()
    assert {each.name for each in tmp_path.iterdir()} == stays


def test_a_folder_is_as_large_as_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(bytes(10))
    (tmp_path / "d").write_bytes(bytes(5))
    (tmp_path / "gone").symlink_to(tmp_path / "never")
    assert folder_bytes(tmp_path) == 15
    assert folder_bytes(tmp_path / "never") == 0


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_what_may_not_be_written_says_what_to_do(tmp_path: Path, number: int) -> None:
    target = tmp_path / "folder" / "x.json"
    for at in (target, target.with_name(".x.1-2.json"), tmp_path):
        with pytest.raises(StorageError) as caught, storing(target):
            raise OSError(number, os.strerror(number), str(at))
        assert str(caught.value) == (
            f"{target}: cannot be written: {os.strerror(number)} (give it to this user, or choose "
            "another folder by out-dir, cache-dir or TMPDIR)"
        )


def test_what_may_have_been_read_is_not_said_to_be_written() -> None:
    why = why_not_written(PermissionError(errno.EACCES, "Permission denied", "photos"))
    assert why is not None and why.startswith("cannot be read or written: Permission denied (")


def test_what_may_not_be_read_elsewhere_is_another_error(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="secret"), storing(tmp_path / "x.json"):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/secret.png")
    with pytest.raises(FileNotFoundError), storing(tmp_path / "x.json"):
        raise FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "x.json"))
