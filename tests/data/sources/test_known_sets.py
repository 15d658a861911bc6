"""Data sets by name, each from small files in its own real format."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets as torchvision_sets
from torchvision.datasets import utils as torchvision_utils

from regl_app.config import RunConfig
from regl_app.config.choices import SOURCES
from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.federation import Federation
from regl_app.data.source import Source
from regl_app.data.sources.cinic import CLASSES
from regl_app.data.sources.medmnist import SHOWS
from regl_app.data.sources.registry import load_source

RNG = np.random.default_rng(0)


def load(source: str, root: Path, **keys: object) -> Source:
    flat = {"source": source, "path": str(root), "image_size": 8, **keys}
    return load_source(DataConfig.model_validate(flat))


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12), (shade, 0, 9)).save(path)
    return path


def svhn_files(root: Path, count: int = 20) -> None:
    for split in ("train", "test"):
        pixels = np.zeros((32, 32, 3, count), dtype=np.uint8)
        pixels[:, :, 1] = np.arange(count)  # green tells which row it is
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": labels})


def test_svhn_is_upright_and_its_ten_is_a_zero(tmp_path: Path) -> None:
    svhn_files(tmp_path)
    source = load("svhn", tmp_path, image_size=32, max_train=10)
    assert source.train.images.shape == (10, 3, 32, 32) and len(source.test) == 20
    rows = source.train.images[:, 1, 0, 0]
    assert torch.equal(source.train.labels, (rows.long() + 1) % 10)
    assert source.train.facts is not None and source.train.facts.places.tolist() == rows.tolist()
    assert source.class_names[0] == "0" and source.concepts[3] == "the digit three"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no mat", "cannot be read"),
        ({"X": np.zeros((32, 32, 3, 2)), "y": [[1], [2]]}, "X must be uint8 .* is float64"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [[1]]}, "X must be uint8 .* for 1"),
        ({"X": np.zeros((32, 32, 3, 1), np.uint8), "y": [[11]]}, r"labels must lie in 1\.\.10"),
        ({"y": [[1]]}, "cannot be read .*X"),
    ],
)
def test_damaged_svhn_is_named(tmp_path: Path, content: object, message: str) -> None:
    svhn_files(tmp_path)
    path = tmp_path / "train_32x32.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, content)
    with pytest.raises(DataError, match=message):
        load("svhn", tmp_path)


def test_svhn_is_fetched_by_its_published_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"lacks train_32x32\.mat, test_32x32\.mat .*download=true"):
        load("svhn", tmp_path)
    asked = []

    def download(url: str, root: Path, name: str, md5: str) -> None:
        asked.append((url, name, md5))
        svhn_files(Path(root))

    monkeypatch.setattr(torchvision_utils, "download_url", download)
    assert len(load("svhn", tmp_path, download=True).train) == 20
    assert asked == [tuple(torchvision_sets.SVHN.split_list[split]) for split in ("train", "test")]


@pytest.mark.parametrize(
    ("source", "split", "classes", "named"),
    [
        ("emnist-balanced", "balanced", 47, {10: ("A", "the capital letter A"), 36: ("a", "")}),
        ("emnist-bymerge", "bymerge", 47, {12: ("C", "the letter c"), 46: ("t", "")}),
        ("emnist-byclass", "byclass", 62, {36: ("a", "the small letter a"), 9: ("9", "")}),
        ("emnist-digits", "digits", 10, {3: ("3", "the digit three")}),
        ("emnist-mnist", "mnist", 10, {0: ("0", "")}),
    ],
)
def test_splits_of_emnist_have_torchvisions_classes(
    tmp_path: Path, source: str, split: str, classes: int, named: dict[int, tuple[str, str]]
) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "test"):
        images = np.zeros((classes, 28, 28), dtype=np.uint8)
        images[:, 0, :] = 255
        for kind, values in (("images-idx3", images), ("labels-idx1", np.arange(classes))):
            shape = np.array(values.shape, dtype=">u4").tobytes()
            content = bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes()
            name = f"emnist-{split}-{part}-{kind}-ubyte.gz"
            (raw / name).write_bytes(gzip.compress(content))
    found = load(source, tmp_path, image_size=28)
    assert found.class_names == tuple(torchvision_sets.EMNIST.classes_split_dict[split])
    assert (found.train.images[:, :, :, 0] == 255).all()
    for label, (name, phrase) in named.items():
        assert found.class_names[label] == name
        assert phrase in ("", found.concepts[label])


def test_cinic_is_trained_on_train_and_tested_on_test(tmp_path: Path) -> None:
    for place, (part, name) in enumerate(
        (p, n) for p in ("train", "valid", "test") for n in CLASSES
    ):
        picture(tmp_path / "CINIC-10" / part / name / "cifar10-train-1.png", place)
    source = load("cinic10", tmp_path)
    assert source.train.images[:, 0, 0, 0].tolist() == list(range(10))
    assert source.test.images[:, 0, 0, 0].tolist() == list(range(20, 30))
    assert source.name == "cinic10" and source.concepts[0] == "an airplane"
    assert load("cinic10", tmp_path / "CINIC-10").class_names == CLASSES
    (tmp_path / "CINIC-10/test/dog").rename(tmp_path / "CINIC-10/test/hund")
    with pytest.raises(DataError, match=r"CINIC-10 lacks test/dog; unpack"):
        load("cinic10", tmp_path, max_test=1)


def tiny_imagenet(root: Path) -> Path:
    ids = ["n01443537", "n01629819", "n01641577"]
    for place, wordnet in enumerate(ids):
        for number in range(2):
            name = f"{wordnet}_{number}.JPEG"
            picture(root / "train" / wordnet / "images" / name, 10 * place)
        (root / "train" / wordnet / f"{wordnet}_boxes.txt").write_text("x\t0\t0\t9\t9\n")
        picture(root / "val/images" / f"val_{place}.JPEG", 10 * place)
    picture(root / "test/images/test_0.JPEG")
    (root / "wnids.txt").write_text("\n".join(reversed(ids)))
    words = ["goldfish, Carassius auratus", "crane, bird", "crane, machine", "other thing"]
    (root / "words.txt").write_text(
        "".join(f"{w}\t{t}\n" for w, t in zip([*ids, "n99"], words, strict=True))
    )
    lines = [f"val_{place}.JPEG\t{ids[place]}\t0\t32\t44\t62" for place in (2, 0, 1)]
    (root / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root


def test_tiny_imagenet_is_tested_by_its_annotations(tmp_path: Path) -> None:
    tiny_imagenet(tmp_path / "tiny-imagenet-200")
    source = load("tiny-imagenet", tmp_path)
    assert source.class_names == (
        "goldfish",
        "crane, bird (n01629819)",
        "crane, machine (n01641577)",
    )
    assert source.concepts[0] == "a goldfish"
    assert source.train.counts(3).tolist() == [2, 2, 2] and len(source.test) == 3
    shades = source.test.images[:, 0, 4, 4].long()
    assert (shades - 10 * source.test.labels).abs().max() <= 4  # JPEG
    assert source.train.facts is not None
    assert source.train.facts.row_name(0) == "train/n01443537/images/n01443537_0.JPEG"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_0.JPEG\tn777\t0", "line 1: must be a picture's name, a tab and the id"),
        ("val_0.JPEG", "line 1: must be a picture's name"),
        ("../../x\tn01443537", "line 1: must be a picture's name"),
        ("val_9.JPEG\tn01443537\t0", "line 1: 'val_9.JPEG' is not in val/images"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, line: str, message: str) -> None:
    root = tiny_imagenet(tmp_path)
    (root / "val/val_annotations.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        load("tiny-imagenet", root)


def test_what_tiny_imagenet_lacks_is_named(tmp_path: Path) -> None:
    root = tiny_imagenet(tmp_path)
    (root / "val/val_annotations.txt").unlink()
    with pytest.raises(DataError, match=r"lacks val/val_annotations\.txt"):
        load("tiny-imagenet", root)
    (root / "words.txt").write_text("n01443537\tgoldfish\n")
    picture(root / "val/n01443537/images/a.JPEG")
    with pytest.raises(DataError, match="has no words for n01629819, n01641577"):
        load("tiny-imagenet", root)
    (root / "words.txt").unlink()
    with pytest.raises(DataError, match=r"lacks words\.txt; unpack"):
        load("tiny-imagenet", root)


@pytest.fixture
def medmnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the package, whose table of data sets is all that is used of it."""
    module = ModuleType("medmnist")
    labels = {"0": "melanoma", "1": "nevus"}
    address = {"url": "https://x/d.npz", "MD5": "m", "url_64": "https://x/d64.npz", "MD5_64": "m64"}
    module.INFO = {name: {"label": labels, **address} for name in SHOWS}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "medmnist", module)


def medmnist_file(path: Path, size: int = 28, colour: bool = True, **other: object) -> None:
    shape = (6, size, size, 3) if colour else (6, size, size)
    content: dict[str, object] = {}
    for split in ("train", "val", "test"):
        pixels = np.full(shape, size, dtype=np.uint8)
        content |= {f"{split}_images": pixels, f"{split}_labels": np.array([[0], [1]] * 3)}
    np.savez(path, **{**content, **other})  # type: ignore[arg-type]


@pytest.mark.usefixtures("medmnist")
def test_medmnist_is_read_at_the_size_that_is_not_enlarged(tmp_path: Path) -> None:
    medmnist_file(tmp_path / "dermamnist.npz")
    medmnist_file(tmp_path / "dermamnist_128.npz", 128)
    for size, shade in ((8, 28), (32, 128), (200, 128)):
        source = load("dermamnist", tmp_path, image_size=size)
        assert source.train.shape == (3, size, size)
        assert (source.train.images == shade).all()
    assert source.class_names == ("melanoma", "nevus")
    assert source.concepts[0] == "melanoma in a dermatoscopic photo"
    medmnist_file(tmp_path / "octmnist.npz", colour=False)
    assert load("octmnist", tmp_path).train.shape == (1, 8, 8)


@pytest.mark.usefixtures("medmnist")
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"train_images": np.zeros((6, 28, 28))}, "train_images must be uint8"),
        ({"train_labels": np.zeros((6, 14), dtype=int)}, r"labels int64 \(6, 14\)"),
        ({"train_labels": np.full((6, 1), 2)}, r"must lie in 0\.\.1, got 2\.\.2"),
        ({"train_labels": np.array([[None]] * 6)}, "cannot be read"),
    ],
)
def test_damaged_medmnist_is_named(tmp_path: Path, other: dict[str, object], message: str) -> None:
    medmnist_file(tmp_path / "dermamnist.npz", **other)
    with pytest.raises(DataError, match=message):
        load("dermamnist", tmp_path)
    (tmp_path / "dermamnist.npz").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(DataError, match=r"dermamnist\.npz"):
        load("dermamnist", tmp_path, max_train=1)


@pytest.mark.usefixtures("medmnist")
def test_medmnist_is_fetched_at_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"lacks bloodmnist_64\.npz .*data\.download=true"):
        load("bloodmnist", tmp_path, image_size=32)
    asked = []

    def download(url: str, root: Path, name: str, md5: str) -> None:
        asked.append((url, name, md5))
        medmnist_file(Path(root) / name)

    monkeypatch.setattr(torchvision_utils, "download_url", download)
    assert len(load("bloodmnist", tmp_path, image_size=32, download=True).train) == 6
    assert asked == [("https://x/d64.npz", "bloodmnist_64.npz", "m64")]


def test_without_its_package_medmnist_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(DataError, match="pip install medmnist"):
        load("pathmnist", tmp_path)


def test_every_flat_set_of_medmnist_is_one_of_the_real_package(tmp_path: Path) -> None:
    info = pytest.importorskip("medmnist").INFO
    flat = {
        name
        for name, each in info.items()
        if not name.endswith("3d") and each["task"] != "multi-label, binary-class"
    }
    assert (
        flat
        == set(SHOWS)
        == {name for name in SOURCES if "medmnist" in SOURCES[name].implementation}
    )
    for name in SHOWS:
        classes = len(info[name]["label"])
        labels = np.arange(2 * classes)[:, None] % classes
        arrays = {
            f"{split}_{kind}": values
            for split in ("train", "test")
            for kind, values in (
                ("images", np.zeros((2 * classes, 28, 28), np.uint8)),
                ("labels", labels),
            )
        }
        np.savez(tmp_path / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        assert load(name, tmp_path).num_classes == classes


def test_domains_are_a_column_that_clients_can_be(tmp_path: Path) -> None:
    for domain in ("art_painting", "cartoon", "photo", "Sketch"):
        for kind in ("dog", "elephant"):
            for number in range(4):
                picture(tmp_path / "PACS" / domain / kind / f"{number}.jpg", 60 * len(domain) % 255)
    (tmp_path / "PACS" / "splits").mkdir()
    keys = {"data.source": "pacs", "data.path": str(tmp_path), "data.image-size": 8}
    by = {"partition.scheme": "column", "partition.column": "domain"}
    federation = Federation.load(RunConfig.from_flat({**keys, **by}), 4)
    facts = federation.source.train.facts
    assert facts is not None and federation.source.class_names == ("dog", "elephant")
    held = [set(facts.subset(part).names("domain")) for part in federation.parts()]
    assert held == [{"art_painting"}, {"cartoon"}, {"photo"}, {"sketch"}]
    first = facts.row_name(int(facts.subset(federation.parts()[3]).places[0]))
    assert first.startswith("Sketch/")


def test_any_domains_may_lack_classes_and_none_may_be_absent(tmp_path: Path) -> None:
    for name in ("Köln/cat", "Köln/dog", "Wien/dog"):
        for number in range(4):
            picture(tmp_path / name / f"{number}.png")
    source = load("domains", tmp_path, test_fraction=0.25)
    assert source.train.counts(2).tolist() == [3, 6]
    with pytest.raises(DataError, match=r"lacks the domains 'Art', 'Clipart', 'Product', 'Real W"):
        load("office-home", tmp_path)
    with pytest.raises(DataError, match=r"lacks <domain>/<class>/ \(2 domains, 0 classes\)"):
        load("domains", tmp_path / "Köln")
    (tmp_path / "Wien" / "bird").mkdir()
    with pytest.raises(DataError, match="no domain has a picture of 'bird'"):
        load("domains", tmp_path)


def test_a_domain_that_is_another_one_by_links_is_refused(tmp_path: Path) -> None:
    """Else a picture would be trained on in one domain, and be tested on in the other."""
    for name in ("Köln/cat", "Köln/dog", "Wien/dog"):
        for number in range(4):
            picture(tmp_path / name / f"{number}.png")
    for number in range(4):
        os.link(tmp_path / f"Wien/dog/{number}.png", tmp_path / f"Wien/dog/again-{number}.png")
    source = load("domains", tmp_path, test_fraction=0.25)
    assert len(source.train) + len(source.test) == 12
    (tmp_path / "all").symlink_to(tmp_path / "Köln")
    with pytest.raises(DataError, match=r"every picture of 'Köln/cat'.* of 'all/cat'"):
        load("domains", tmp_path)


def test_two_cases_of_a_domain_are_one_and_no_picture_of_them_is_lost(tmp_path: Path) -> None:
    for domain in ("art_painting", "cartoon", "photo", "Photo", "sketch"):
        for kind in ("dog", "cat"):
            for number in range(3):
                path = tmp_path / "PACS" / domain / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    source = load_source(DataConfig(source="pacs", path=str(tmp_path), image_size=8))
    assert len(source.train) + len(source.test) == 30
    (tmp_path / "PACS" / "photo" / "owl").mkdir()
    (tmp_path / "PACS" / "photo" / "owl" / "1.png").write_bytes(b"no picture")
    keys = {"source": "pacs", "path": str(tmp_path), "image_size": 16, "unreadable": "skip"}
    with pytest.raises(DataError, match="no picture of 'owl' can be read"):
        load_source(DataConfig.model_validate(keys))
