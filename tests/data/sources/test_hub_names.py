"""Parquet files of one set, each of which has a list of class names of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image

from regl_app.core.errors import DataError
from regl_app.data.images import ImageSet
from regl_app.data.source import Source

GRAYS = {"cat": 10, "dog": 20, "bird": 30, "emu": 40}
Save = Callable[..., None]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Return what writes a parquet file: its list of names, and a picture of each of ``shown``."""
    import datasets

    def write(
        name: str,
        names: Sequence[str] | None,
        shown: Sequence[str],
        ward: Sequence[str] | None = ("Ulm",),
    ) -> None:
        listed = list(names or ["cat", "dog"])
        kind = datasets.ClassLabel(names=listed) if names else datasets.Value("int64")
        features = {"image": datasets.Image(), "label": kind}
        wards = datasets.ClassLabel(names=list(ward)) if ward else datasets.Value("int64")
        features["ward"] = wards
        rows = {
            "image": [Image.new("L", (8, 8), GRAYS.get(each, 0)) for each in shown],
            "label": [listed.index(each) if each in listed else -1 for each in shown],
            "ward": [n % len(ward or "few") for n in range(len(shown))],
        }
        (tmp_path / "set").mkdir(exist_ok=True)
        table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        table.to_parquet(tmp_path / "set" / name)

    return write


def read_as(source: Source, images: ImageSet) -> list[str]:
    """Return each image's class by its label, having seen that it is what the picture shows."""
    named = [source.class_names[label] for label in images.labels.tolist()]
    assert images.images[:, 0, 0, 0].tolist() == [GRAYS[name] for name in named]
    return named


def test_splits_that_number_their_classes_differently_are_read_by_name(
    save: Save, load: Callable[..., Source]
) -> None:
    save("train.parquet", ["cat", "dog"], ["cat", "dog", "dog"] * 2)
    save("test.parquet", ["dog", "cat"], ["cat", "dog", "cat"])
    source = load()
    assert source.class_names == ("cat", "dog")
    assert read_as(source, source.train) == ["cat", "dog", "dog"] * 2
    assert read_as(source, source.test) == ["cat", "dog", "cat"]


def test_so_are_shards_of_one_split(save: Save, load: Callable[..., Source]) -> None:
    save("train-0.parquet", ["cat", "dog"], ["cat", "dog"] * 2)
    save("train-1.parquet", ["dog", "cat"], ["dog", "dog", "cat"])
    save("train-2.parquet", ["dog", "emu"], ["emu", "dog"])
    source = load(test_fraction=0.3)
    assert source.class_names == ("cat", "dog", "emu")
    together = [*read_as(source, source.train), *read_as(source, source.test)]
    assert sorted(together) == ["cat"] * 3 + ["dog"] * 5 + ["emu"]


def test_a_test_split_may_name_fewer_classes_or_none_that_it_shows(
    save: Save, load: Callable[..., Source]
) -> None:
    save("train.parquet", ["bird", "cat", "dog"], ["bird", "cat", "dog"] * 2)
    save("test.parquet", ["cat", "dog", "emu"], ["cat", "dog"])
    source = load()
    assert source.class_names == ("bird", "cat", "dog")
    assert read_as(source, source.test) == ["cat", "dog"]


def test_a_class_that_the_training_split_does_not_name_is_refused_with_both_lists(
    save: Save, load: Callable[..., Source]
) -> None:
    save("train.parquet", ["cat", "dog"], ["cat", "dog"] * 2)
    save("test.parquet", ["dog", "emu", "cat"], ["cat", "emu", "emu"])
    with pytest.raises(DataError) as caught:
        load()
    for words in ("test.parquet", "2 rows of 'emu'", "['dog', 'emu', 'cat']", "['cat', 'dog']"):
        assert words in str(caught.value)
    assert "train.parquet" in str(caught.value) and "data.splits" in str(caught.value)


def test_numbers_without_names_are_refused_beside_lists_that_differ(
    save: Save, load: Callable[..., Source]
) -> None:
    save("train-0.parquet", None, ["cat", "dog"] * 2)
    save("train-1.parquet", ["cat", "dog"], ["cat", "dog"])
    save("test.parquet", ["dog", "cat"], ["cat", "dog"])
    with pytest.raises(DataError, match=r"train-0\.parquet .*no names.*test\.parquet"):
        load()


def test_a_secret_split_of_another_list_is_still_passed_over(
    save: Save, load: Callable[..., Source]
) -> None:
    save("train.parquet", ["cat", "dog"], ["cat", "dog"] * 2)
    save("test.parquet", ["dog", "cat"], ["secret"] * 3)
    save("validation.parquet", ["dog", "cat"], ["dog"])
    source = load()
    assert read_as(source, source.test) == ["dog"]


def test_columns_to_deal_rows_out_by_are_read_by_name_as_well(
    save: Save, load: Callable[..., Source]
) -> None:
    names = ["cat", "dog"]
    save("train-0.parquet", names, ["cat", "dog"], ["Ulm", "Wien"])
    save("train-1.parquet", names, ["cat", "dog"], ["Wien", "Bonn"])
    save("test.parquet", names, ["cat", "dog"], ["Rom", "Wien"])
    facts = load().train.facts
    assert facts is not None and facts.names("ward") == ["Ulm", "Wien", "Wien", "Bonn"]
    assert facts.whole.columns == ("label", "ward")


@pytest.mark.parametrize("names", [["cat", "dog", "bird"], ["dog", "bird", "cat"], None])
def test_a_split_that_is_not_used_may_show_other_classes_or_have_no_names(
    names: Sequence[str] | None, save: Save, load: Callable[..., Source]
) -> None:
    save("train.parquet", ["cat", "dog"], ["cat", "dog"] * 2)
    save("test.parquet", ["dog", "cat"], ["dog", "cat", "dog"])
    save("validation.parquet", names, ["cat", "bird"] if names else ["cat", "dog"])
    source = load()
    assert source.class_names == ("cat", "dog")
    assert read_as(source, source.test) == ["dog", "cat", "dog"]
    if names:
        with pytest.raises(DataError, match="1 rows of 'bird'"):
            load(splits="train,validation")


def test_a_secret_split_without_names_is_passed_over(
    save: Save, load: Callable[..., Source]
) -> None:
    save("train-0.parquet", ["cat", "dog"], ["cat", "dog"] * 2)
    save("train-1.parquet", ["dog", "cat"], ["cat"])
    save("test.parquet", None, ["secret"] * 3)
    save("validation.parquet", ["dog", "cat"], ["dog"])
    source = load()
    assert source.train.labels.tolist() == [0, 1, 0, 1, 0]
    assert read_as(source, source.test) == ["dog"]


def test_a_split_without_the_column_of_labels_is_passed_over(
    save: Save, load: Callable[..., Source], tmp_path: Path
) -> None:
    save("train-0.parquet", ["cat", "dog"], ["cat", "dog"] * 6)
    save("train-1.parquet", ["dog", "cat"], ["dog", "cat"] * 6)
    save("test.parquet", ["cat", "dog"], ["cat", "dog"])
    path = tmp_path / "set" / "test.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).drop(["label"]), path)
    source = load()
    assert read_as(source, source.train).count("dog") == len(source.train) // 2


def test_another_column_without_names_in_one_file_is_left_out_and_told(
    save: Save, load: Callable[..., Source], caplog: pytest.LogCaptureFixture
) -> None:
    names = ["cat", "dog"]
    save("train-0.parquet", names, ["cat", "dog"], ["Ulm", "Wien"])
    save("train-1.parquet", names, ["cat", "dog", "dog"], None)
    save("test.parquet", names, ["cat", "dog"], ["Wien", "Ulm"])
    source = load()
    assert read_as(source, source.train) == ["cat", "dog", "cat", "dog", "dog"]
    assert source.train.facts is not None and source.train.facts.whole.columns == ("label",)
    assert "column 'ward' is left out" in caplog.text and "train-1.parquet" in caplog.text
