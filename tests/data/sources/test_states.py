"""What a source is read from is known by its files: another file is another state, and is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regl_app.config.choices import SOURCES
from regl_app.config.sections import DataConfig
from regl_app.core.file_states import files_state
from regl_app.data.picture_store import PictureStore
from regl_app.data.sources.cinic import CLASSES
from regl_app.data.sources.registry import load_source, source_state


def _idx(path: Path, values: list[int], *shape: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = np.resize(np.array(values, dtype=np.uint8), (len(values), *shape))
    head = bytes([0, 0, 8, content.ndim]) + np.array(content.shape, ">u4").tobytes()
    path.write_bytes(head + content.tobytes())


def mnist(root: Path, labels: list[int]) -> DataConfig:
    for split in ("train", "t10k"):
        _idx(root / "MNIST/raw" / f"{split}-images-idx3-ubyte", labels, 8, 8)
        _idx(root / "MNIST/raw" / f"{split}-labels-idx1-ubyte", labels)
    return DataConfig(source="mnist", path=str(root), image_size=8)


def cifar(root: Path, labels: list[int]) -> DataConfig:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True, exist_ok=True)
    record = b"".join(bytes([label]) + bytes(3072) for label in labels)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(record)
    (folder / "batches.meta.txt").write_text("\n".join(f"name{number}" for number in range(10)))
    return DataConfig(source="cifar10", path=str(root), image_size=8)


def hub(root: Path, labels: list[int]) -> DataConfig:
    import datasets

    root.mkdir(parents=True, exist_ok=True)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list("abcdefghij"))}
    )
    for split in ("train", "test"):
        rows = {"image": [Image.new("L", (8, 8)) for _ in labels], "label": labels}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(root / f"{split}.parquet")
    return DataConfig(source="hub", path=str(root), image_size=8)


def pictures(source: str, root: Path, labels: list[int]) -> DataConfig:
    for path in sorted(root.rglob("*.png")):
        path.unlink()
    for number, label in enumerate([*labels, *range(10)]):
        path = root / f"class{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    classes = ",".join(f"class{number}" for number in range(10)) if source == "site" else ""
    return DataConfig(source=source, path=str(root), image_size=8, classes=classes)


def folder(root: Path, labels: list[int]) -> DataConfig:
    return pictures("folder", root, labels)


def site(root: Path, labels: list[int]) -> DataConfig:
    return pictures("site", root, labels)


Write = Callable[[Path, list[int]], DataConfig]


@pytest.mark.parametrize("write", [mnist, cifar, hub, folder, site])
def test_other_labels_under_the_same_path_are_read(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    config = write(tmp_path / "data", [0, 1, 2, 3])
    before, state = load_source(config), source_state(config)
    assert source_state(config) == state and load_source(config) is before
    config = write(tmp_path / "data", [4, 1, 2, 2])
    assert source_state(config) != state
    found = load_source(config)
    assert found.test.counts(10).tolist() != before.test.counts(10).tolist()


def test_every_source_says_what_it_is_read_from() -> None:
    assert {name for name, choice in SOURCES.items() if not choice.files} == {"digits"}
    assert source_state(DataConfig()) == ""


def test_a_hub_id_is_known_by_what_is_prepared_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    config = DataConfig(source="hub", path="owner/name@main:small")
    assert source_state(config).startswith("0 files")
    prepared = tmp_path / "owner___name" / "small" / "0.0.0" / "abc" / "name-train.arrow"
    prepared.parent.mkdir(parents=True)
    prepared.write_bytes(b"rows")
    assert source_state(config).startswith("1 files, 4 bytes")


def test_a_state_is_names_sizes_and_times(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"x")
    other.write_bytes(b"yy")
    states = {files_state([one]), files_state([one, other]), files_state([other, one])}
    known = files_state([one])
    assert known.startswith("1 files, 1 bytes, ") and len(states) == 3
    os.utime(one, ns=(0, 0))
    assert files_state([one]) != known
    assert files_state([tmp_path / "gone"]) == files_state([])


def domains(root: Path) -> tuple[DataConfig, str]:
    for place in ("here/a/cat", "here/a/dog", "there/b/cat", "there/b/dog"):
        for number in range(4):
            _picture(root / place / f"{number}.png", number)
    (root / "here/b").symlink_to(root / "there/b")
    return DataConfig(source="domains", path=str(root / "here"), image_size=8), "there/b/cat"


def cinic(root: Path) -> tuple[DataConfig, str]:
    for number, name in enumerate(CLASSES):
        _picture(root / "there" / name / "0.png", number)
        _picture(root / "here/CINIC-10/test" / name / "0.png", number)
    (root / "here/CINIC-10/train").symlink_to(root / "there")
    return DataConfig(source="cinic10", path=str(root / "here"), image_size=8), "there/dog"


def tiny_imagenet(root: Path) -> tuple[DataConfig, str]:
    for number, wordnet in enumerate(("n1", "n2")):
        _picture(root / "there" / wordnet / "images/0.png", number)
        _picture(root / "here/val" / wordnet / "0.png", number)
    (root / "here/train").symlink_to(root / "there")
    (root / "here/words.txt").write_text("n1\tcat\nn2\tdog\n")
    return DataConfig(source="tiny-imagenet", path=str(root / "here"), image_size=8), "there/n1"


def _picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)


@pytest.mark.parametrize("write", [domains, cinic, tiny_imagenet])
def test_what_links_lead_to_counts_and_what_is_not_read_does_not(
    write: Callable[[Path], tuple[DataConfig, str]], tmp_path: Path
) -> None:
    config, linked = write(tmp_path)
    before, state = load_source(config), source_state(config)
    for name in ("README.md", ".DS_Store", "another.zip"):
        (tmp_path / "here" / name).write_bytes(b"x")
    assert source_state(config) == state and load_source(config) is before
    _picture(tmp_path / linked / "more.png", 99)
    assert source_state(config) != state
    assert len(load_source(config).train) + len(load_source(config).test) == (
        len(before.train) + len(before.test) + 1
    )


def test_other_words_of_tiny_imagenet_are_another_state(tmp_path: Path) -> None:
    config, _ = tiny_imagenet(tmp_path)
    assert load_source(config).class_names == ("cat", "dog")
    (tmp_path / "here/words.txt").write_text("n1\ta cat\nn2\tdog\n")
    assert load_source(config).class_names == ("a cat", "dog")


def test_notes_beside_parquet_files_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    config = hub(tmp_path / "data", [0, 1, 2, 3])
    state = source_state(config)
    for name in ("README.md", ".cache/huggingface/download/train.parquet.metadata", ".DS_Store"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"x")
    assert source_state(config) == state
    (tmp_path / "data" / "0001.png").write_bytes(b"x")  # a row may name it
    assert source_state(config) != state


def test_what_programs_make_of_a_hub_set_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    config = DataConfig(source="hub", path="Owner/MySet")
    # As the library names it: see ``DatasetBuilder``.
    prepared = tmp_path / "Owner___my_set" / "default" / "0.0.0" / "abc"
    for name in (prepared / "my_set-train.arrow", prepared / "cache-0123456789abcdef.arrow"):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(b"rows")
    unfinished = prepared.with_name("def.incomplete") / "my_set-train.arrow"
    unfinished.parent.mkdir()
    unfinished.write_bytes(b"half")
    assert source_state(config).startswith("1 files, 4 bytes")


def test_a_relative_path_is_the_folder_that_it_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, shade in (("one", 3), ("other", 4)):
        for name in ("cat", "dog"):
            for number in range(4):
                path = tmp_path / place / "photos" / name / f"{number}.bmp"
                _picture(path, shade)
                os.utime(path, ns=(0, 0))  # as an archive may set them all
    config = DataConfig(source="folder", path="photos", image_size=8)
    store = PictureStore(tmp_path / "store")
    for place, shade in (("one", 3), ("other", 4)):
        monkeypatch.chdir(tmp_path / place)
        assert load_source(config, store=store).train.images.unique().tolist() == [shade]
    absolute = config.model_copy(update={"path": str(tmp_path / "one" / "photos")})
    monkeypatch.chdir(tmp_path / "one")
    assert source_state(config) == source_state(absolute)
    load_source(absolute, store=store)
    assert len(list(store.root.glob("*.set"))) == 2  # decoded once, however it is named
