from __future__ import annotations

import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from regl_app.core.files import write_bytes
from regl_app.supplement.image_store import SupplementStore

KEY = {"generator": "g", "label": 3, "guidance": 2.0}


def make(count: int, fill: int = 0) -> torch.Tensor:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return images.add(fill).contiguous()


def test_a_sequence_serves_every_shorter_quota(tmp_path: Path) -> None:
    store = SupplementStore(tmp_path)
    assert store.get(KEY, 2) is None
    store.put(KEY, make(5))
    for count, expected in ((2, 2), (5, 5), (9, 5)):
        images = store.get(KEY, count)
        assert images is not None
        assert torch.equal(images, make(expected))


def test_longer_replaces_shorter_but_not_the_reverse(tmp_path: Path) -> None:
    store = SupplementStore(tmp_path)
    store.put(KEY, make(5))
    store.put(KEY, make(2, fill=9))
    assert torch.equal(store.get(KEY, 9), make(5))  # type: ignore[arg-type]
    store.put(KEY, make(7))
    assert torch.equal(store.get(KEY, 9), make(7))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"label": 4}, {"guidance": 1.0}, {"generator": "h"}])
def test_every_part_of_the_key_counts(tmp_path: Path, change: dict[str, object]) -> None:
    store = SupplementStore(tmp_path)
    store.put(KEY, make(3))
    assert store.get(KEY | change, 3) is None  # type: ignore[arg-type]


def test_a_damaged_entry_is_dropped(tmp_path: Path) -> None:
    store = SupplementStore(tmp_path)
    store.put(KEY, make(3))
    (path,) = tmp_path.glob("*/*.safetensors")
    whole = path.read_bytes()
    for damaged in (whole[:-1] + b"\xff", whole[:40], b""):
        path.write_bytes(damaged)
        assert store.get(KEY, 3) is None
        assert not path.exists()
    store.put(KEY, make(3))
    assert store.get(KEY, 3) is not None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = SupplementStore(tmp_path, max_bytes=1)
    roomy = SupplementStore(tmp_path)
    roomy.put(KEY, make(3))
    entry = roomy.size()
    store = SupplementStore(tmp_path, max_bytes=2 * entry + 50)
    other = KEY | {"label": 5}
    roomy.put(other, make(3))
    now = 2_000_000_000
    for age, path in enumerate(sorted(tmp_path.glob("*/*.safetensors"), key=os.path.getmtime)):
        os.utime(path, (now + age, now + age))
    os.utime(roomy._path(other), (now, now))
    os.utime(roomy._path(KEY), (now + 9, now + 9))
    store.put(KEY | {"label": 6}, make(3))
    assert store.get(other, 1) is None
    assert store.get(KEY, 1) is not None
    assert store.get(KEY | {"label": 6}, 1) is not None
    assert store.size() <= store.max_bytes


def _write(root: str, count: int) -> None:
    store = SupplementStore(Path(root))
    for length in range(1, count):
        store.put(KEY, make(length))
        images = store.get(KEY, count)
        assert images is not None
        assert torch.equal(images, make(len(images)))


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        for done in [pool.submit(_write, str(tmp_path), 40) for _ in range(2)]:
            done.result()
    images = SupplementStore(tmp_path).get(KEY, 99)
    assert images is not None
    assert torch.equal(images, make(39))
    assert not list(tmp_path.rglob(".*"))  # no temporary file is left


def _swap(path: str, long: bytes, short: bytes) -> None:
    for turn in itertools.count():
        write_bytes(Path(path), (long, short)[turn % 2])


def test_a_reader_sees_one_writers_file(tmp_path: Path) -> None:
    contents = []
    for count in (40, 1):
        SupplementStore(tmp_path / str(count)).put(KEY, make(count))
        (path,) = (tmp_path / str(count)).glob("*/*.safetensors")
        contents.append(path.read_bytes())
    shared = tmp_path / "shared" / path.parent.name / path.name
    write_bytes(shared, contents[0])
    writer = get_context("spawn").Process(target=_swap, args=(str(shared), *contents), daemon=True)
    writer.start()
    try:
        store, turns, length = SupplementStore(tmp_path / "shared"), 0, 40
        while turns < 300:
            images = store.get(KEY, 99)
            assert images is not None
            assert torch.equal(images, make(len(images)))
            turns, length = turns + (len(images) != length), len(images)
            assert writer.is_alive()
            store.put(KEY, make(1))
    finally:
        writer.terminate()
        writer.join()


def test_only_uint8_images_are_stored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(N, C, H, W\), got torch.float32"):
        SupplementStore(tmp_path).put(KEY, torch.zeros(1, 1, 2, 2))
