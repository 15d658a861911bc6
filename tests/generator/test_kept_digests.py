"""A checkpoint is hashed once a machine, and again as soon as a file of it might have changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core.files import sha256_file
from regl_app.generator import kept_digests
from regl_app.generator.checkpoint import generator_digest
from regl_app.generator.kept_digests import digests_folder

Start = Callable[[], list[str]]


@pytest.fixture
def checkpoint(second_pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(second_pipeline, tmp_path / "checkpoint"))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = digests_folder(RunConfig.from_flat({"cache-dir": str(tmp_path / "cache")}))
    assert folder == tmp_path / "cache" / "digests"
    return folder


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return what begins another process, and returns what becomes the files that it hashes."""
    monkeypatch.setattr(kept_digests, "LARGE", 1)
    later(monkeypatch)

    def process() -> list[str]:
        kept_digests._known.clear()
        hashed: list[str] = []

        def counted(file: Path) -> str:
            hashed.append(file.name)
            return sha256_file(file)

        monkeypatch.setattr(kept_digests, "sha256_file", counted)
        return hashed

    return process


def later(monkeypatch: pytest.MonkeyPatch, seconds: float = 60.0) -> None:
    """Let what was written just now be ``seconds`` old."""
    now = kept_digests.time.time_ns
    monkeypatch.setattr(kept_digests.time, "time_ns", lambda: now() + int(seconds * 1e9))


def weights(checkpoint: Path) -> Path:
    return next((checkpoint / "unet").glob("*.safetensors"))


def test_the_next_process_hashes_nothing(checkpoint: Path, kept: Path, start: Start) -> None:
    first = start()
    digest = generator_digest(checkpoint, kept)
    assert weights(checkpoint).name in first
    assert generator_digest(checkpoint) == digest, "the process knows it by now"
    second = start()
    assert generator_digest(checkpoint, kept) == digest
    assert second == []
    third = start()
    assert generator_digest(checkpoint) == digest
    assert sorted(third) == sorted(first), "nobody said where digests are kept"


def test_what_has_changed_is_hashed_anew(checkpoint: Path, kept: Path, start: Start) -> None:
    start()
    digest, file = generator_digest(checkpoint, kept), weights(checkpoint)
    content, state = bytearray(file.read_bytes()), file.stat()
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # as rsync --times leaves it
    hashed = start()
    changed = generator_digest(checkpoint, kept)
    assert changed != digest
    assert hashed == [file.name]
    start()
    assert generator_digest(checkpoint, kept) == changed


def test_what_has_changed_just_now_is_not_trusted(
    checkpoint: Path, kept: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, -3600.0)  # no machine is so slow
    for _ in range(2):
        hashed = start()
        generator_digest(checkpoint, kept)
        assert weights(checkpoint).name in hashed
    assert not kept.exists()


def test_a_file_that_changes_as_it_is_hashed_is_not_kept(
    checkpoint: Path, kept: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()

    def written_meanwhile(file: Path) -> str:
        digest = sha256_file(file)
        with file.open("ab") as stream:
            stream.write(b" ")
        return digest

    monkeypatch.setattr(kept_digests, "sha256_file", written_meanwhile)
    generator_digest(checkpoint, kept)
    assert not list(kept.glob("*.json"))


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"sha256": 1}'])
def test_a_damaged_record_is_made_anew(
    checkpoint: Path, kept: Path, start: Start, damage: str
) -> None:
    start()
    digest = generator_digest(checkpoint, kept)
    for record in kept.glob("*.json"):
        held = json.loads(record.read_text())
        assert sha256_file(Path(held["file"])) == held["sha256"]
        record.write_text(damage or json.dumps({**held, "sha256": "no digest"}))
    hashed = start()
    assert generator_digest(checkpoint, kept) == digest
    assert hashed


def test_small_files_and_a_folder_that_cannot_be_written_leave_nothing(
    checkpoint: Path, kept: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    blocked = kept.parent
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("a file, where a folder was meant")
    digest = generator_digest(checkpoint, kept)
    blocked.unlink()
    monkeypatch.setattr(kept_digests, "LARGE", 2**26)
    start()
    assert generator_digest(checkpoint, kept) == digest
    assert not kept.exists()
