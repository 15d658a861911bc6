"""Image i of a client and its picture i are the same picture, however the set was cut up."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig, PublicDataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.types import Scalar
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore
from regl_app.data.sources.registry import load_source
from regl_app.data.sources.site import SiteFolder, load_site

CLASSES, EACH, SIDE = 3, 30, 40


def picture(number: int) -> Image.Image:
    """Return a picture that is known by its grey at any size: no two of a set have the same."""
    return Image.new("RGB", (SIDE + 10, SIDE), (number,) * 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(CLASSES * EACH):
        path = tmp_path / "pictures" / f"class{number % CLASSES}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    names = [f"class{label}" for label in range(CLASSES)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    rows: dict[str, list[object]] = {"image": [], "label": []}
    for number in range(CLASSES * EACH):
        stream = io.BytesIO()
        picture(number).save(stream, "PNG")
        rows["image"].append({"bytes": stream.getvalue(), "path": None})
        rows["label"].append(number % CLASSES)
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set/train.parquet")
    return tmp_path / "set"


def assert_same_pictures(images: ImageSet, store: PictureStore, size: int = 24) -> list[int]:
    """Look whether all pictures are those of the images, and return their numbers."""
    assert images.originals is not None
    pictures = store.pictures(images.originals, size)
    large = pictures[:]
    assert len(pictures) == len(images) and large.shape == (len(images), 3, size, size)
    numbers = images.images[:, 0, 0, 0].tolist()
    assert large[:, 0, 0, 0].tolist() == numbers
    assert torch.equal(large, large[:, :1, :1, :1].expand_as(large))
    assert [number % CLASSES for number in numbers] == images.labels.tolist()
    return numbers


@pytest.mark.parametrize("source", ["folder", "hub"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data.max-train": 21, "data.max-test": 6},
        {"data.public-fraction": 0.3},
        {"long-tail.factor": 4},
        {"partition.scheme": "iid", "partition.test-fraction": 0.5},
        {"data.public-fraction": 0.2, "data.max-train": 30, "long-tail.factor": 2, "data.seed": 3},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_every_part_of_a_set_keeps_its_pictures(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, changes: dict[str, Scalar]
) -> None:
    root = request.getfixturevalue("parquet" if source == "hub" else "folder")
    config = RunConfig.from_flat(
        {
            "data.source": source,
            "data.path": str(root),
            "data.image-size": 8,
            "partition.beta": 0.5,
            **changes,
        }
    )
    federation, store = Federation.load(config, 3), PictureStore(tmp_path / "store")
    numbers = []
    for client in range(3):
        data = federation.client(client)
        numbers += assert_same_pictures(data.train, store)
        numbers += assert_same_pictures(data.test, store)
    assert sorted(numbers) == sorted(federation.source.train.images[:, 0, 0, 0].tolist())
    assert_same_pictures(federation.pooled(), store)
    # One file for all clients, of nothing but what is trained on.
    (file,) = (tmp_path / "store").glob("*.npy")
    assert len(np.load(file, mmap_mode="r")) == len(federation.source.train) == len(numbers)
    assert federation.source.test.originals is None


def test_the_public_part_has_pictures_of_its_own(folder: Path, tmp_path: Path) -> None:
    keys = {"source": "folder", "path": str(folder), "image_size": 8, "public_fraction": 0.3}
    store = PictureStore(tmp_path / "store")
    public = assert_same_pictures(load_source(PublicDataConfig(**keys)).train, store)
    clients = assert_same_pictures(load_source(DataConfig(**keys)).train, store)
    assert len(public) == 27 and not set(public) & set(clients)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sites_pictures_are_those_it_trains_on(
    folder: Path, tmp_path: Path, channels: int
) -> None:
    config = DataConfig(
        source="site", classes="class0,class1,class2", image_size=8, max_train=60, channels=channels
    )
    site = SiteFolder(folder, AllowedFolders((tmp_path,)))
    data = load_site(site, config, 0, 0.25)
    assert data.train.originals is not None
    large = PictureStore(tmp_path / "store").pictures(data.train.originals, 24)[:]
    assert large.shape == (45, channels, 24, 24)
    assert torch.equal(large[:, :, 0, 0], data.train.images[:, :, 0, 0])


def test_pictures_no_larger_than_the_images_are_no_originals(folder: Path) -> None:
    for size, larger in ((SIDE - 1, True), (SIDE, False)):
        config = DataConfig(source="folder", path=str(folder), image_size=size)
        assert (load_source(config).train.originals is not None) == larger


def test_both_copies_obey_the_rule(folder: Path, tmp_path: Path) -> None:
    config = DataConfig(source="folder", path=str(folder), image_size=10, fit="pad")
    train = load_source(config).train
    assert train.originals is not None
    large = PictureStore(tmp_path / "store").pictures(train.originals, 20)[:]
    for images in (train.images, large):  # 50 x 40: a tenth above and a tenth below is black
        rows = images[:, 0].amax((0, 2)) > 0
        tenth = len(rows) // 10
        assert rows.tolist() == [False] * tenth + [True] * (8 * tenth) + [False] * tenth


def test_labels_and_pictures_must_be_as_many(folder: Path) -> None:
    train = load_source(DataConfig(source="folder", path=str(folder), image_size=8)).train
    with pytest.raises(DataError, match="originals must be 2 pictures, got 63"):
        ImageSet(train.images[:2], train.labels[:2], train.originals)


def test_the_digest_tells_pictures_and_their_treatment_apart(
    photos: Callable[..., Path], tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos", {"a": 8, "b": 8}, width=20, height=16)
    keys = {"source": "folder", "path": str(folder), "image_size": 8}
    original = load_source(DataConfig(**keys)).train.originals
    padded = load_source(DataConfig(**keys, fit="pad")).train.originals
    assert original is not None and padded is not None
    digests = {original.digest, padded.digest, original.subset(np.array([0, 1])).digest}
    assert len(digests) == 3
    assert original.alone().digest == original.digest
    assert original.subset(np.array([1])).alone().digest == original.subset(np.array([1])).digest
