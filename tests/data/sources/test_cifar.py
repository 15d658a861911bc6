"""CIFAR from plain bytes: the binary version, fetched, checked, and never its pickled twin."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.sources import cifar, registry
from regl_app.data.sources.registry import load_source

NAMES = {
    "cifar10": [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ],
    "cifar100": [f"thing_{number}" for number in range(100)],
}


def _record(label: int, label_bytes: int) -> bytes:
    """Return one record: red is the label, green is 7, blue counts its rows."""
    blue = np.repeat(np.arange(32, dtype=np.uint8), 32).tobytes()
    return bytes([9] * (label_bytes - 1) + [label]) + bytes([label]) * 1024 + b"\7" * 1024 + blue


def _files(source: str, per_file: int = 100) -> dict[str, bytes]:
    family = cifar.FAMILY[source]
    records = [_record(i % family.classes, family.label_bytes) for i in range(per_file)]
    files = dict.fromkeys((*family.train, family.test), b"".join(records))
    return {**files, family.names: "\n".join([*NAMES[source], ""]).encode()}


def _write(root: Path, source: str) -> Path:
    folder = root / cifar.FAMILY[source].folder
    folder.mkdir(parents=True)
    for name, content in _files(source).items():
        (folder / name).write_bytes(content)
    return folder


def _config(source: str, root: Path, **changes: object) -> DataConfig:
    keys = {"source": source, "path": str(root), "image_size": 32, **changes}
    return DataConfig.model_validate(keys)


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_labels_and_pixels_are_read_from_the_binary_version(tmp_path: Path, source: str) -> None:
    _write(tmp_path, source)
    found = load_source(_config(source, tmp_path))
    family = cifar.FAMILY[source]
    assert found.train.images.shape == (100 * len(family.train), 3, 32, 32)
    assert found.test.labels.tolist() == [i % family.classes for i in range(100)]
    for label in (0, 3, family.classes - 1):
        image = found.test.images[found.test.labels == label][0]
        assert (image[0] == label).all() and (image[1] == 7).all()
        assert torch.equal(image[2, :, 0], torch.arange(32, dtype=torch.uint8))
    assert found.class_names == tuple(NAMES[source])
    assert found.concepts[0] == ("an airplane" if source == "cifar10" else "a thing 0")


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        ("test_batch.bin", lambda b: b[:-1], "has 307299 bytes; fetch"),
        ("data_batch_3.bin", lambda b: b"", "has 0 bytes; fetch"),
        ("test_batch.bin", lambda b: b"\x0a" + b[1:], r"labels must lie in 0\.\.9, got 10"),
        ("batches.meta.txt", lambda b: b[:24], "must name 10 classes, names 3"),
        ("batches.meta.txt", lambda b: b * 999, "more than 10000 bytes"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: object, why: str) -> None:
    assert callable(damage)
    file = _write(tmp_path, "cifar10") / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=rf"{name}: .*{why}"):
        load_source(_config("cifar10", tmp_path))


def test_a_file_with_more_records_than_the_data_set_has_is_not_read(tmp_path: Path) -> None:
    file = _write(tmp_path, "cifar10") / "test_batch.bin"
    with file.open("wb") as stream:
        stream.truncate(3073 * 10_001)  # sparse
    with pytest.raises(DataError, match="must be 1 to 10000 records"):
        load_source(_config("cifar10", tmp_path))


def test_the_pickled_version_is_named_with_what_to_do_instead(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match=r"cifar-10-batches-bin lacks .*never opened.*'binary ver"):
        load_source(_config("cifar10", tmp_path))


def _archive(path: Path, files: Mapping[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the archive that is 'downloaded', with a member that would leave the folder."""
    from torchvision import datasets

    family = cifar.FAMILY["cifar10"]
    there = tmp_path / "there"
    there.mkdir()
    path = there / "cifar-10-binary.tar.gz"
    files = {f"{family.folder}/{name}": content for name, content in _files("cifar10").items()}
    md5 = _archive(path, {**files, "../outside.txt": b"x"})
    monkeypatch.setattr(cifar, "FAMILY", {"cifar10": dataclasses.replace(family, md5=md5)})
    monkeypatch.setenv("no_proxy", "*")
    serve = functools.partial(_Quiet, directory=str(there))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz"
    monkeypatch.setattr(datasets.CIFAR10, "url", url)
    yield path
    server.shutdown()
    server.server_close()


def test_the_archive_is_fetched_and_only_what_is_read_is_taken_out(
    tmp_path: Path, published: Path
) -> None:
    root = tmp_path / "root"
    source = load_source(_config("cifar10", root, download=True))
    assert len(source.test) == 100
    assert {path.name for path in root.iterdir()} == {"cifar-10-batches-bin", published.name}
    assert not (tmp_path / "outside.txt").exists()
    published.unlink()  # nothing is fetched again
    registry._load.cache_clear()
    assert len(load_source(_config("cifar10", root, download=True)).train) == 500


def test_an_archive_with_another_checksum_is_not_opened(tmp_path: Path, published: Path) -> None:
    published.write_bytes(published.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"cannot be fetched into data\.path"):
        load_source(_config("cifar10", tmp_path / "root", download=True))
    assert not (tmp_path / "root" / "cifar-10-batches-bin").exists()
