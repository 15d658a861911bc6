"""Sources: digits, the MNIST family, image folders and parquet."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.concepts import concept
from regl_app.data.resize import to_square
from regl_app.data.sources.registry import load_source


def test_digits_are_white_on_black_and_split_by_fraction_and_seed() -> None:
    source = load_source(DataConfig())
    assert (len(source.train), len(source.test)) == (1257, 540)
    assert source.train.shape == (1, 32, 32)
    border = source.train.images[:, :, 0, 0].float().mean()
    assert border < 5 < 60 < source.train.images[:, :, 12:20, 12:20].float().mean()
    shares = source.test.counts(10) / (source.test.counts(10) + source.train.counts(10))
    assert np.abs(shares - 0.3).max() < 0.01
    assert source.class_names[3] == "3" and source.concepts[3] == "the digit three"
    other = load_source(DataConfig(seed=1))
    assert not torch.equal(other.test.images, source.test.images)


def test_caps_are_stratified_and_seeded() -> None:
    source = load_source(DataConfig(image_size=8, max_train=100, max_test=30))
    assert source.train.counts(10).tolist() == [10] * 10
    assert source.test.counts(10).tolist() == [3] * 10


@pytest.mark.parametrize(
    ("name", "article", "phrase"),
    [
        ("7", False, "the digit seven"),
        ("b", False, "the letter b"),
        ("B", False, "the letter b"),
        ("acoustic_guitar", False, "acoustic guitar"),
        ("red-panda_cub", False, "red panda cub"),
        ("airplane", True, "an airplane"),
        ("sweet_pepper", True, "a sweet pepper"),
    ],
)
def test_concepts(name: str, article: bool, phrase: str) -> None:
    assert concept(name, article=article) == phrase


def test_resize_cuts_the_centre_and_keeps_flat_images_flat() -> None:
    wide = torch.zeros(1, 1, 10, 30)
    wide[..., 10:20] = 200
    assert (to_square(wide, 16) == 200).all()
    exact = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(to_square(exact, 8), exact)


def _write_idx(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    path.write_bytes(gzip.compress(header + values.tobytes()))


def _mnist_root(root: Path, name: str = "MNIST", prefix: str = "{}", first: int = 0) -> Path:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = ("train", "test" if "emnist" in prefix else "t10k")
    for split, count in zip(names, (40, 20), strict=True):
        stem = prefix.format(split)
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        images[:, 0, :] = 255  # the first row
        _write_idx(raw / f"{stem}-images-idx3-ubyte.gz", images)
        labels = (rng.permutation(count) % 10 + first).astype(np.uint8)
        _write_idx(raw / f"{stem}-labels-idx1-ubyte.gz", labels)
    return raw


def test_gzipped_mnist_is_read_in_place(tmp_path: Path) -> None:
    raw = _mnist_root(tmp_path)
    before = sorted(raw.iterdir())
    source = load_source(DataConfig(source="mnist", path=str(tmp_path), image_size=28))
    assert source.train.images.shape == (40, 1, 28, 28)
    assert source.train.counts(10).tolist() == [4] * 10
    assert (source.train.images[:, :, 0] == 255).all()
    assert sorted(raw.iterdir()) == before


def test_emnist_letters_are_turned_upright_and_numbered_from_a(tmp_path: Path) -> None:
    _mnist_root(tmp_path, "EMNIST", "emnist-letters-{}", first=1)
    source = load_source(DataConfig(source="emnist", path=str(tmp_path), image_size=28))
    assert (source.train.images[:, :, :, 0] == 255).all()  # the stored first row is a column
    assert source.train.labels.min() == 0
    assert source.num_classes == 26 and source.concepts[1] == "the letter b"


def test_absent_files_are_named_with_folder_and_remedy(tmp_path: Path) -> None:
    raw = _mnist_root(tmp_path, "FashionMNIST")
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"raw lacks t10k-labels-idx1-ubyte .*data\.download=true"):
        load_source(DataConfig(source="fashion-mnist", path=str(tmp_path)))


@pytest.mark.parametrize("source", ["mnist", "cifar10"])
def test_a_root_is_required(source: str) -> None:
    with pytest.raises(DataError, match=r"needs data\.path"):
        load_source(DataConfig.model_validate({"source": source}))


def test_absent_cifar_names_folder_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar-100-binary lacks .*data\.download=true"):
        load_source(DataConfig(source="cifar100", path=str(tmp_path)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-9], "cannot be read"),
        (lambda b: gzip.compress(gzip.decompress(b)[:-5]), "the header promises 31360 values"),
        (lambda b: gzip.compress(b"\0\0\x09\x03" + bytes(20)), "not an idx file"),
        (lambda b: gzip.compress(gzip.decompress(b) + bytes(10**8)), ".* the file holds more"),
        (lambda b: gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "the header promises 792"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, damage: object, message: str) -> None:
    assert callable(damage)
    file = _mnist_root(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.gz: {message}"):
        load_source(DataConfig(source="mnist", path=str(tmp_path)))


def _picture(value: int, mode: str = "L", size: tuple[int, int] = (20, 12)) -> Image.Image:
    return Image.new(mode, size, value if mode == "L" else (value, 0, 0))


def _fill(root: Path, names: tuple[str, ...], count: int, mode: str = "L") -> None:
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(count):
            _picture(50 * (index + 1), mode).save(root / name / f"{number}.png")


def test_a_folder_of_classes_is_split(tmp_path: Path) -> None:
    _fill(tmp_path, ("red-panda", "big_cat"), 10)
    source = load_source(DataConfig(source="folder", path=str(tmp_path), image_size=16))
    assert source.class_names == ("big_cat", "red-panda")
    assert source.concepts == ("big cat", "red panda")
    assert source.train.shape == (1, 16, 16)
    assert source.train.counts(2).tolist() == [7, 7]
    assert (source.train.images[source.train.labels == 1] == 50).all()


def test_a_folder_with_splits_uses_them_and_mixed_colours_become_rgb(tmp_path: Path) -> None:
    _fill(tmp_path / "train", ("a", "b"), 3)
    _fill(tmp_path / "test", ("a", "b"), 2, mode="RGB")
    source = load_source(DataConfig(source="folder", path=str(tmp_path), image_size=8))
    assert (len(source.train), len(source.test)) == (6, 4)
    assert source.train.shape == source.test.shape == (3, 8, 8)
    assert (source.test.images[0, :, 0, 0] == torch.tensor([50, 0, 0])).all()
    assert source.concepts == ("the letter a", "the letter b")


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    _fill(tmp_path, ("a", "b"), 2)
    (tmp_path / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b.1\.png: not a readable image"):
        load_source(DataConfig(source="folder", path=str(tmp_path)))


def test_a_folder_without_classes_or_images_says_what_it_expects(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one subfolder of pictures per class"):
        load_source(DataConfig(source="folder", path=str(tmp_path)))
    with pytest.raises(DataError, match="is not a folder"):
        load_source(DataConfig(source="folder", path=str(tmp_path / "absent")))
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        load_source(DataConfig(source="folder", path=str(tmp_path)))


def test_sixteen_bit_images_keep_their_brightness(tmp_path: Path) -> None:
    _fill(tmp_path, ("a", "b"), 2)
    Image.fromarray(np.full((8, 8), 32768, dtype=np.uint16)).save(tmp_path / "a" / "0.png")
    source = load_source(DataConfig(source="folder", path=str(tmp_path), image_size=8))
    both = torch.cat([source.train.images, source.test.images])
    assert 127 <= int(both[:, 0, 0, 0].max()) <= 128


def _encoded(value: int) -> bytes:
    stream = io.BytesIO()
    _picture(value, "RGB", (10, 10)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "polar_bear"])}
    )
    folder = tmp_path / "pets"
    folder.mkdir()
    for split, count in (("train", 12), ("test", 4)):
        rows = {
            "img": [{"bytes": _encoded(10 + 100 * (i % 2)), "path": None} for i in range(count)],
            "label": [i % 2 for i in range(count)],
        }
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(folder / f"{split}-00000.parquet")
    return folder


def test_local_parquet_is_read_with_names_and_caps(parquet: Path) -> None:
    config = DataConfig(source="hub", path=str(parquet), image_size=8, max_train=6)
    source = load_source(config)
    assert source.class_names == ("cat", "polar_bear")
    assert source.concepts == ("cat", "polar bear")
    assert source.train.counts(2).tolist() == [3, 3] and len(source.test) == 4
    assert (source.train.images[source.train.labels == 1][:, 0] == 110).all()


def test_cifar_is_read_from_the_parquet_files_of_the_hub(parquet: Path) -> None:
    hub = load_source(DataConfig(source="hub", path=str(parquet), image_size=8, max_train=6))
    parquet.rename(parquet.parent / "cifar10")
    source = load_source(
        DataConfig(source="cifar10", path=str(parquet.parent), image_size=8, max_train=6)
    )
    assert source.name == "cifar10" and source.concepts == ("a cat", "a polar bear")
    assert torch.equal(source.train.images, hub.train.images)
    assert torch.equal(source.test.labels, hub.test.labels)


def test_a_folder_without_parquet_files_does_not_hide_the_other_form(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(DataError, match=r"cifar-10-batches-bin lacks"):
        load_source(DataConfig(source="cifar10", path=str(tmp_path)))


def test_parquet_without_test_split_is_split(parquet: Path) -> None:
    (parquet / "test-00000.parquet").unlink()
    source = load_source(DataConfig(source="hub", path=str(parquet), test_fraction=0.5))
    assert (len(source.train), len(source.test)) == (6, 6)


def test_a_parquet_folder_without_train_says_what_it_expects(parquet: Path) -> None:
    (parquet / "train-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"holds no train\*\.parquet"):
        load_source(DataConfig(source="hub", path=str(parquet)))


def test_the_hub_is_not_asked_unless_allowed() -> None:
    with pytest.raises(DataError, match=r"needs data\.download=true"):
        load_source(DataConfig(source="hub", path="some/data-set"))


def test_a_hub_id_has_an_owner() -> None:
    config = DataConfig(source="hub", path="pandas", download=True)
    with pytest.raises(DataError, match="must be owner/name"):
        load_source(config)


def test_a_row_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    import datasets

    secret = tmp_path / "secret.png"
    Image.new("L", (8, 8)).save(secret)
    folder = tmp_path / "set"
    folder.mkdir()
    rows = {"image": [{"bytes": None, "path": str(secret)}] * 4, "label": [0, 1, 0, 1]}
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    table = datasets.Dataset.from_dict(rows, features=features)
    table.to_parquet(folder / "train.parquet")
    with pytest.raises(DataError, match="no file of the data set"):
        load_source(DataConfig(source="hub", path=str(folder), image_size=8, test_fraction=0.5))


def test_a_table_of_one_class_is_not_told_of_folders(tmp_path: Path) -> None:
    import datasets

    rows = {"image": [Image.new("L", (9, 9), gray) for gray in range(4)], "label": [0] * 4}
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a"])}
    )
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    config = {"source": "hub", "path": str(tmp_path), "image_size": 8, "test_fraction": 0.5}
    with pytest.raises(DataError, match=r"has 1 class, a, needs at least 2$"):
        load_source(DataConfig.model_validate(config))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.tar.gz", r"a\.tar\.gz' is not a folder \(a\.tar\.gz has to be unpacked first\); data"),
        ("a.ZIP", r"\(a\.ZIP has to be unpacked first\); "),
        ("a.csv", r"a\.csv' is not a folder \(a\.csv may be a table, and docs/data\.md"),
        ("a.png", r"a\.png' is not a folder but a file; data\.source='folder' expects"),
        ("photos", r"photos' is not a folder but a file; data\.source='folder' expects"),
    ],
)
def test_a_file_is_told_what_to_do_with_by_its_ending(
    name: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"PK")
    config = DataConfig.model_validate({"source": "folder", "path": str(tmp_path / name)})
    with pytest.raises(DataError, match=words):
        load_source(config)
    missing = config.model_copy(update={"path": str(tmp_path / "b.csv")})
    with pytest.raises(DataError, match=r"b\.csv' is not a folder; data\.source='folder' expects"):
        load_source(missing)


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (
            {"images/a.png": 0, "images/b.png": 1},
            r"has 1 class, images, needs at least 2 \(one subfolder .* in a table: docs/data\.md",
        ),
        (
            {"cat/a.png": 0, "dog/b.png": 1},
            r"has 2 training and 0 test images, needs .*\(more pictures, .*train/",
        ),
        ({"a.png": 0}, r"data\.path='.*': .* has no subfolders; expected one subfolder"),
        (None, r"photos\.zip' is not a folder \(photos\.zip has to be unpacked first\)"),
    ],
)
def test_a_folder_that_is_not_enough_says_what_is(
    pictures: dict[str, int] | None, words: str, tmp_path: Path
) -> None:
    root = tmp_path / "photos.zip"
    for name, gray in (pictures or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), gray).save(root / name)
    if pictures is None:
        root.write_bytes(b"PK")
    config = {"source": "folder", "path": str(root), "image_size": 8}
    with pytest.raises(DataError, match=words):
        load_source(DataConfig.model_validate(config))
