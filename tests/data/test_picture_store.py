from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.core.errors import DataError
from regl_app.data import picture_store
from regl_app.data.decode import Decoded, decode_images
from regl_app.data.originals import Originals, PictureFiles
from regl_app.data.picture_store import PictureStore, StoredPictures, UnstoredPictures

COUNT, SIZE = 40, 12


@pytest.fixture
def folder(photos: Callable[..., Path], tmp_path: Path) -> Path:
    return photos(tmp_path / "photos", {"cat": COUNT}, width=20, height=16)


def originals(folder: Path) -> Originals:
    paths = tuple(sorted(folder.rglob("*.png")))
    everything = np.arange(len(paths), dtype=np.int64)
    sides = np.full(len(paths), 16, dtype=np.int64)
    return Originals(PictureFiles.of_paths(paths), everything, sides, 3, "crop")


def expected(folder: Path, size: int = SIZE) -> torch.Tensor:
    return decode_images([(str(p), p) for p in sorted(folder.rglob("*.png"))], size).images


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many pictures each call of the decoder has decoded."""
    counts: list[int] = []

    def counted(files: Iterable[tuple[str, Path | bytes]], *arguments: object) -> Decoded:
        listed = list(files)
        counts.append(len(listed))
        return decode_images(listed, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(picture_store, "decode_images", counted)
    return counts


def test_pictures_are_decoded_once_and_in_portions(
    folder: Path, tmp_path: Path, decoded: list[int]
) -> None:
    for _ in range(2):
        pictures = PictureStore(tmp_path / "store").pictures(originals(folder), SIZE)
        assert isinstance(pictures, StoredPictures) and isinstance(pictures.pixels, np.memmap)
        assert torch.equal(pictures[:], expected(folder))
    assert sum(decoded) == COUNT and max(decoded) < COUNT
    (file,) = (tmp_path / "store").glob("*.npy")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_part_reads_its_own_pictures(folder: Path, tmp_path: Path, decoded: list[int]) -> None:
    store, every = PictureStore(tmp_path / "store"), originals(folder)
    for chosen in ([3, 1, 39], [5], []):
        places = np.array(chosen, dtype=np.int64)
        pictures = store.pictures(every.subset(places), SIZE)
        assert torch.equal(pictures[:], expected(folder)[places])
        assert torch.equal(pictures[1:2], expected(folder)[places[1:2]])
    assert sum(decoded) == COUNT


def test_another_size_and_a_changed_file_are_decoded_anew(
    folder: Path, tmp_path: Path, decoded: list[int]
) -> None:
    store = PictureStore(tmp_path / "store")
    store.pictures(originals(folder), SIZE)
    assert torch.equal(store.pictures(originals(folder), 8)[:], expected(folder, 8))
    changed = sorted(folder.rglob("*.png"))[0]
    changed.write_bytes(sorted(folder.rglob("*.png"))[1].read_bytes())
    pictures = store.pictures(originals(folder), SIZE)
    assert torch.equal(pictures[0:1], pictures[1:2])
    assert sum(decoded) == 3 * COUNT


@pytest.mark.parametrize("change", [Path.unlink, Path.touch])
def test_a_file_that_changes_in_the_midst_of_a_run_is_named(
    folder: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    every = originals(folder)
    os.utime(folder / "cat" / "007.png", ns=(0, 0))
    every = originals(folder)
    change(folder / "cat" / "007.png")
    with pytest.raises(DataError, match=r"007\.png: has changed or gone since .*start the run"):
        PictureStore(tmp_path / "store").pictures(every, SIZE)
    assert not list((tmp_path / "store").glob("*.npy"))


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign"])
def test_a_damaged_file_is_written_anew(folder: Path, tmp_path: Path, damage: str) -> None:
    store, every = PictureStore(tmp_path / "store"), originals(folder)
    store.pictures(every, SIZE)
    (file,) = store.root.glob("*.npy")
    if damage == "foreign":
        np.save(file, np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    else:
        file.write_bytes(file.read_bytes()[: -100 if damage == "cut" else 0])
    assert torch.equal(store.pictures(every, SIZE)[:], expected(folder))


def test_the_least_recently_used_go_first_but_none_that_may_be_in_use(
    folder: Path, tmp_path: Path
) -> None:
    store, every = PictureStore(tmp_path / "store", max_bytes=18_000), originals(folder)
    for size in (8, 10):
        store.pictures(every, size)
    first, second = sorted(store.root.glob("*.npy"), key=lambda path: path.stat().st_size)
    os.utime(first, ns=(0, 0))
    store.pictures(every, SIZE)
    assert not first.exists() and second.exists()


def test_without_room_they_are_decoded_as_they_are_needed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    pictures = PictureStore(tmp_path / "store").pictures(originals(folder), SIZE)
    assert isinstance(pictures, UnstoredPictures) and len(pictures) == COUNT
    assert torch.equal(pictures[2:5], expected(folder)[2:5])
    assert "decoded each time" in caplog.text and not list((tmp_path / "store").glob("*.npy"))


def test_more_than_the_limit_is_not_stored(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = PictureStore(tmp_path / "store", max_bytes=COUNT * 3 * SIZE**2 - 1)
    pictures = store.pictures(originals(folder), SIZE)
    assert torch.equal(pictures[:], expected(folder))
    assert "cache-limit allows" in caplog.text and not list(store.root.glob("*.npy"))


def _use(folder: Path, root: Path, gate: object, found: object) -> None:
    torch.set_num_threads(1)
    counts = []
    inner = picture_store.decode_images

    def counted(files: Iterable[tuple[str, Path | bytes]], *arguments: object) -> Decoded:
        result = inner(files, *arguments)  # type: ignore[arg-type]
        counts.append(len(result.images))
        return result

    picture_store.decode_images = counted  # type: ignore[assignment]
    every = originals(folder)
    gate.wait()  # type: ignore[attr-defined]
    pictures = PictureStore(root).pictures(every, SIZE)
    found.put((sum(counts), int(pictures[:].sum())))  # type: ignore[attr-defined]


def test_of_processes_that_need_them_at_once_one_decodes(folder: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate, found = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=_use, args=(folder, tmp_path / "store", gate, found)) for _ in "ab"
    ]
    for worker in workers:
        worker.start()
    results = sorted(found.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    total = int(expected(folder).sum())
    assert results == [(0, total), (COUNT, total)]
