from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data.source import Source
from regl_app.data.sources.hub_splits import HubId
from regl_app.data.sources.registry import load_source

Save = Callable[..., None]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Return what writes a parquet file of pictures: name, labels, their type; what else."""
    import datasets

    def write(
        name: str,
        labels: Sequence[Any],
        kind: Any = None,
        *,
        pictures: Sequence[Any] | None = None,
        image: str = "image",
        label: str = "label",
    ) -> None:
        kind = kind or datasets.ClassLabel(names=["cat", "dog"])
        shown = [Image.new("L", (8, 8), 10 * n) for n in range(len(labels))]
        features = datasets.Features({image: datasets.Image(), label: kind})
        rows = {image: list(pictures or shown), label: list(labels)}
        file = tmp_path / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(file)

    return write


def test_a_secret_test_split_is_passed_over_for_the_next(
    save: Save, load: Callable[..., Source], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="regl")
    save("train.parquet", [0, 1] * 4)
    save("test.parquet", [-1] * 5)
    save("validation.parquet", [1, 0, 1])
    source = load()
    assert source.test.labels.tolist() == [1, 0, 1]
    assert "split 'test' has no labels" in caplog.text


@pytest.mark.parametrize("name", ["dev", "val", "valid", "eval", "Testing", "VALIDATION-0001"])
def test_the_split_to_test_on_has_many_names(
    save: Save, load: Callable[..., Source], name: str
) -> None:
    save("train-00000.parquet", [0, 1] * 4)
    save(f"{name}.parquet", [1, 1])
    assert (len(load().train), len(load().test)) == (8, 2)


def test_without_any_labelled_split_a_part_is_split_off(
    save: Save, load: Callable[..., Source]
) -> None:
    save("train.parquet", [0, 1] * 4)
    save("test.parquet", [-1] * 5)
    source = load(test_fraction=0.5)
    assert (len(source.train), len(source.test)) == (4, 4)


def test_rows_without_a_label_are_named(save: Save, load: Callable[..., Source]) -> None:
    import datasets

    text = datasets.Value("string")
    save("train.parquet", ["cat", "dog", None] * 8, text)
    with pytest.raises(DataError, match=r"split 'train': 8 rows have no label.*rows 2, 5, 8") as at:
        load()
    assert "'label'" in str(at.value) and "data.columns" in str(at.value)
    save("train.parquet", ["cat", "dog"] * 4, text)
    save("test.parquet", ["cat", None, "horse"], text)
    with pytest.raises(DataError, match=r"split 'test': 2 rows .* that the training split lacks"):
        load()


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        ("int64", [0, 1, -1] * 8, "8 rows have no label.* rows 2, 5, 8"),
        ("float64", [0.0, float("nan"), 1.0] * 8, "8 rows have no label.* rows 1, 4, 7"),
        ("float32", [-1.0, 0.0, 1.0] * 8, "8 rows have no label.* rows 0, 3, 6"),
        ("string", ["", "cat", "dog", " \t"] * 8, "16 rows have no label.* rows 0, 3, 4"),
        ("float64", [0.5, 1.0, None] * 8, r"'label' holds 0\.5, .* no classes .*data\.columns"),
        ("float64", [float("inf"), 1.0] * 8, r"'label' holds inf, .* no classes"),
    ],
)
def test_what_is_no_label_is_no_class(
    save: Save, load: Callable[..., Source], kind: str, values: list[Any], told: str
) -> None:
    import datasets

    save("train.parquet", values, datasets.Value(kind))
    with pytest.raises(DataError, match=told):
        load()


def test_whole_numbers_that_are_stored_as_others_are_classes_as_before(
    save: Save, load: Callable[..., Source]
) -> None:
    import datasets

    save("train.parquet", [0.0, 2.0] * 4, datasets.Value("float64"))
    save("test.parquet", [-1.0, float("nan")], datasets.Value("float64"))
    source = load(test_fraction=0.5)
    assert source.class_names == ("0.0", "2.0") and source.train.counts(2).tolist() == [2, 2]
    save("test.parquet", [float("nan"), -1.0, 2.0], datasets.Value("float64"))
    with pytest.raises(DataError, match=r"split 'test': 2 rows have no label.* rows 0, 1"):
        load()


def test_rows_without_a_picture_are_refused_or_counted(
    save: Save, load: Callable[..., Source]
) -> None:
    pictures = [Image.new("L", (8, 8))] * 7
    save("train.parquet", [0, 1] * 4, pictures=[*pictures, None])
    with pytest.raises(DataError, match=r"split 'train', row 7: holds no picture; give it one"):
        load(test_fraction=0.3)
    source = load(test_fraction=0.3, unreadable="skip")
    assert len(source.train) + len(source.test) == 7 and source.unreadable == 1


def test_several_labels_a_picture_are_refused_by_name(
    save: Save, load: Callable[..., Source]
) -> None:
    import datasets

    save("train.parquet", [[0, 1], [1]], datasets.List(datasets.Value("int64")))
    with pytest.raises(DataError, match=r"column 'label' holds more than one value.*data\.columns"):
        load()


def test_splits_and_columns_by_name(save: Save, load: Callable[..., Source]) -> None:
    names = {"image": "scan", "label": "finding"}
    save("fold1.parquet", [0, 1] * 4, **names)
    save("fold2.parquet", [1, 0], **names)
    asked = {"splits": "fold1, fold2", "columns": "scan,finding"}
    source = load(**asked)
    assert (len(source.train), source.test.labels.tolist()) == (8, [1, 0])
    alone = load(**{**asked, "splits": "fold1"}, test_fraction=0.5)
    assert (len(alone.train), len(alone.test)) == (4, 4)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"splits": "fold9"}, "holds no fold9*.parquet"),
        ({"splits": "train,fold9"}, "data.splits asks for 'fold9'"),
        ({"columns": "image,weather"}, "which asks for 'image,weather'"),
    ],
)
def test_what_is_asked_for_and_not_there_is_said(
    save: Save, load: Callable[..., Source], keys: dict[str, str], words: str
) -> None:
    save("train.parquet", [0, 1] * 4)
    save("test.parquet", [0, 1])
    with pytest.raises(DataError) as caught:
        load(**keys)
    assert words in str(caught.value)


def test_several_configurations_are_not_poured_together(
    save: Save, load: Callable[..., Source], tmp_path: Path
) -> None:
    save("a/train.parquet", [0, 1] * 4)
    save("b/train.parquet", [0, 1] * 2)
    with pytest.raises(DataError, match=r"several configurations: a, b \(set data\.path to one"):
        load()
    assert len(load(path=str(tmp_path / "set" / "b"), test_fraction=0.5).train) == 2


def test_class_names_are_in_nfc(save: Save, load: Callable[..., Source]) -> None:
    import datasets

    apart = unicodedata.normalize("NFD", "Äpfel")
    save("train.parquet", [apart, "Äpfel", "Birnen", "Birnen"] * 2, datasets.Value("string"))
    assert load(test_fraction=0.5).class_names == ("Birnen", "Äpfel")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b", HubId("a/b")),
        ("a/b@v1.0", HubId("a/b", revision="v1.0")),
        ("a/b:en-US", HubId("a/b", config="en-US")),
        ("a/b@refs/pr/3:20220301.en", HubId("a/b", "refs/pr/3", "20220301.en")),
    ],
)
def test_a_hub_id_names_revision_and_configuration(
    path: str, expected: HubId, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    assert HubId.of(path) == expected
    asked: list[tuple[str, str | None, str | None]] = []

    def load_dataset(name: str, config: str | None, *, revision: str | None) -> dict[str, Any]:
        asked.append((name, config, revision))
        return {}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"has splits \[\], needs 'train'"):
        load_source(DataConfig(source="hub", path=path, download=True))
    assert asked == [(expected.id, expected.config, expected.revision)]


@pytest.mark.parametrize("path", ["pandas", "a/b/c", "a/b@", "a/b:", "../up/b", "a/b:c:d"])
def test_what_is_no_hub_id_is_refused(path: str) -> None:
    with pytest.raises(DataError, match="must be owner/name"):
        HubId.of(path)


def test_a_set_of_several_configurations_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(*_args: object, **_keys: object) -> None:
        raise ValueError("Config name is missing.\nPlease pick one: ['a', 'b']")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"\['a', 'b'\]; name one: data\.path=x/y:<configuration>"):
        load_source(DataConfig(source="hub", path="x/y", download=True))


@pytest.mark.parametrize("moved", ["HF_DATASETS_CACHE", "HF_HUB_CACHE", "nothing"])
def test_pictures_in_a_moved_cache_are_the_data_sets_own(
    save: Save,
    load: Callable[..., Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moved: str,
) -> None:
    import datasets
    import huggingface_hub.constants

    home = tmp_path / "elsewhere"
    home.mkdir()
    if moved == "HF_DATASETS_CACHE":
        monkeypatch.setattr(datasets.config, moved, home)
    elif moved == "HF_HUB_CACHE":
        monkeypatch.setattr(huggingface_hub.constants, moved, str(home))
    Image.fromarray(np.full((8, 8), 50, np.uint8)).save(home / "one.png")
    rows = [{"bytes": None, "path": str(home / "one.png")}] * 4
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    table = datasets.Dataset.from_dict({"image": rows, "label": [0, 1, 0, 1]}, features=features)
    (tmp_path / "set").mkdir()
    table.to_parquet(tmp_path / "set" / "train.parquet")
    if moved == "nothing":
        with pytest.raises(DataError, match=r"row 0: has no image, and names .* no file of the"):
            load(test_fraction=0.5)
    else:
        assert load(test_fraction=0.5).train.images.eq(50).all()


def test_other_columns_are_known_row_by_row(tmp_path: Path, load: Callable[..., Source]) -> None:
    import datasets

    kinds = datasets.ClassLabel(names=["cat", "dog"])
    wards = datasets.ClassLabel(names=["Köln", "Wien"])
    age = datasets.Value("int64")
    features = {"image": datasets.Image(), "label": kinds, "ward": wards, "age": age}
    features["note"] = datasets.Value("string")
    rows = {
        "image": [Image.new("L", (8, 8), 10 * n) for n in range(12)],
        "label": [0, 1] * 6,
        "ward": [0, 0, 1] * 4,
        "age": list(range(12)),
        "note": [None] * 12,
    }
    (tmp_path / "set").mkdir()
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    table.to_parquet(tmp_path / "set" / "train.parquet")
    train = load(test_fraction=0.3).train
    assert train.facts is not None and train.facts.whole.columns == ("label", "ward", "age", "note")
    held = (train.images[:, 0, 0, 0] // 10).tolist()
    assert train.facts.places.tolist() == held and len(held) == 8
    assert train.facts.names("ward") == [["Köln", "Köln", "Wien"][row % 3] for row in held]
    assert train.facts.names("age") == [str(row) for row in held]
    with pytest.raises(DataError, match="8 of 8 images have no value"):
        train.facts.names("note")
