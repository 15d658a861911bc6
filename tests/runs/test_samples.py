"""Sample pictures and features: what is written can be read, what is damaged is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.core.errors import RunError
from regl_app.data.images import ImageSet
from regl_app.runs.features import load_features, save_features
from regl_app.runs.samples import load_samples, sample_files, save_samples

NAMES = ("zero", "one", "two")


def _images(labels: list[int], side: int = 8, channels: int = 1) -> ImageSet:
    values = torch.arange(len(labels) * channels * side * side) % 251
    return ImageSet(
        values.reshape(len(labels), channels, side, side).to(torch.uint8), torch.tensor(labels)
    )


def test_samples_round_trip_with_three_per_class(tmp_path: Path) -> None:
    real = _images([2, 0, 2, 2, 2, 0])
    path = save_samples(
        tmp_path, 7, real=real, frozen=_images([0, 1, 2]), adapted=None, class_names=NAMES
    )
    assert path == tmp_path / "samples" / "client-07.npz"
    read = load_samples(path)
    assert read.partition_id == 7
    assert read.class_names == NAMES
    assert set(read.sets) == {"real", "frozen"}
    assert read.sets["real"].labels.tolist() == [2, 0, 2, 2, 0]
    assert torch.equal(read.sets["real"].images[1], real.images[1])
    assert len(read.of_class("real", 1)) == 0


def test_the_picture_has_a_column_per_class_and_rows_per_kind(tmp_path: Path) -> None:
    path = save_samples(
        tmp_path,
        0,
        real=_images([0], channels=3),
        frozen=_images([0, 1, 2], channels=3),
        adapted=_images([0, 1, 2], channels=3),
        matched=_images([1], channels=3),
        class_names=NAMES,
    )
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.size == (3 * 10, 4 * 3 * 10 + 3 * 6)


def test_a_client_without_images_is_no_problem(tmp_path: Path) -> None:
    empty = ImageSet.empty((1, 8, 8))
    path = save_samples(tmp_path, 1, real=empty, frozen=None, adapted=None, class_names=NAMES)
    assert len(load_samples(path).sets["real"]) == 0


def test_large_images_are_shrunk_for_looking_at(tmp_path: Path) -> None:
    path = save_samples(
        tmp_path, 0, real=_images([0], side=256), frozen=None, adapted=None, class_names=NAMES
    )
    assert load_samples(path).sets["real"].shape == (1, 64, 64)


def test_sample_files_come_in_the_order_of_clients(tmp_path: Path) -> None:
    for client in (10, 2):
        real = _images([0])
        save_samples(tmp_path, client, real=real, frozen=None, adapted=None, class_names=NAMES)
    (tmp_path / "samples" / "client-all.npz").write_bytes(b"PK")  # another's
    found = sample_files(tmp_path)
    assert list(found) == [2, 10]
    assert [load_samples(path).partition_id for path in found.values()] == [2, 10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"real": np.zeros((1, 1, 8, 8), np.float32)}, "real must be uint8"),
        ({"real_labels": np.array([5])}, r"real_labels must be in 0\.\.2"),
        ({"real_labels": np.array([0, 1])}, "with n labels"),
        ({"class_names": np.array([1, 2])}, "class_names"),
        ({"frozen": np.zeros((1, 1, 4, 4), np.uint8), "frozen_labels": np.array([0])}, "different"),
    ],
)
def test_damaged_samples_are_refused(
    tmp_path: Path, change: dict[str, np.ndarray], message: str
) -> None:
    good = {
        "class_names": np.array(NAMES),
        "real": np.zeros((1, 1, 8, 8), np.uint8),
        "real_labels": np.array([0]),
    }
    path = tmp_path / "client-00.npz"
    np.savez(path, **(good | change))
    with pytest.raises(RunError, match=message):
        load_samples(path)


def test_pickled_or_torn_files_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "client-00.npz"
    np.savez(path, class_names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RunError, match="cannot be read"):
        load_samples(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RunError, match="cannot be read"):
        load_samples(path)


def test_a_file_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "client-00.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("real.npy", "w") as member,
    ):
        for _ in range(1100):
            member.write(bytes(2**20))
    with pytest.raises(RunError, match=r"at most 1073741824 bytes, 115\d+"):
        load_samples(path)


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "client-00.npz"
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.npy").rename(path)
    with pytest.raises(RunError, match="it is no npz archive"):
        load_samples(path)


def test_features_round_trip(tmp_path: Path) -> None:
    assert load_features(tmp_path) is None
    view = np.ones((4, 3), np.float64), np.array([0, 1, 2, 0])
    save_features(
        tmp_path, features=view[0], labels=np.arange(4), predictions=view[1], local={11: view}
    )
    read = load_features(tmp_path)
    assert read is not None
    assert read.global_model.features.dtype == np.float32
    assert read.local_models[11].predictions.tolist() == [0, 1, 2, 0]


def test_features_that_do_not_fit_are_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="3 predictions for 4 labels"):
        save_features(
            tmp_path, features=np.ones((4, 3)), labels=np.arange(4), predictions=np.arange(3)
        )
    with pytest.raises(RunError, match="not all finite"):
        save_features(
            tmp_path,
            features=np.full((4, 3), np.nan),
            labels=np.arange(4),
            predictions=np.arange(4),
        )
    assert not (tmp_path / "features.npz").exists()
