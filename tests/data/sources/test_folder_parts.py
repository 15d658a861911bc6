"""What in an image folder is trained on and tested on: names of parts, wrappers, shared files."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.data import decode
from regl_app.data.source import Source
from regl_app.data.sources.folder import folder_files, load_folder
from tests.data.sources.test_folder_layouts import fill


def config(root: Path) -> DataConfig:
    return DataConfig(source="folder", path=str(root), image_size=8)


def load(root: Path) -> Source:
    return load_folder(config(root))


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a picture is decoded: what is refused is refused before."""

    def read(*_: object) -> None:
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(decode, "_read", read)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "eval"),
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("Train_Images", "Validation Images"),
        ("trainset", "testset"),
    ],
)
def test_names_of_parts_may_have_the_usual_words_around_them(
    tmp_path: Path, train: str, test: str
) -> None:
    fill(tmp_path / train, {"cat": 3, "dog": 3})
    fill(tmp_path / test, {"cat": 2, "dog": 1})
    source = load(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert source.train.counts(2).tolist() == [3, 3]
    assert source.test.counts(2).tolist() == [2, 1]


def test_a_plain_name_comes_before_one_with_words_around_it(tmp_path: Path) -> None:
    parts = {"train": 4, "train_images": 3, "val": 2, "test_set": 1}
    fill(tmp_path, {f"{part}/{name}": n for part, n in parts.items() for name in ("a", "b")})
    source = load(tmp_path)
    assert (len(source.train), len(source.test)) == (8, 4)
    fill(tmp_path, {f"test/{name}": 5 for name in ("a", "b")})
    source = load(tmp_path)
    assert (len(source.train), len(source.test)) == (8, 10)


@pytest.mark.parametrize("names", [("train", "holdout"), ("fold_1", "fold_2"), ("learn", "test")])
@pytest.mark.usefixtures("undecoded")
def test_parts_of_other_names_are_no_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    fill(tmp_path, {f"{part}/{name}": 2 for part in names for name in ("cat", "dog", "emu")})
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    told = str(caught.value)
    assert " and ".join(map(repr, sorted(names))) in told and "'cat', 'dog', 'emu'" in told
    assert "train/ and test/" in told


def test_classes_that_are_divided_alike_are_classes_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, {f"{name}/{size}": 3 for name in ("benign", "malignant") for size in "48"})
    assert load(tmp_path).class_names == ("benign", "malignant")
    assert "'benign' and 'malignant' hold the same subfolders, '4', '8'" in caplog.text
    fill(tmp_path / "ways", {f"{n}/{when}": 2 for n in ("bus", "car", "train") for when in "dn"})
    assert load(tmp_path / "ways").class_names == ("bus", "car", "train")
    assert "'bus' and 'car' and 'train' hold the same subfolders" in caplog.text
    caplog.clear()
    fill(tmp_path / "tiny", {f"{name}/images": 3 for name in ("n01", "n02")})
    load(tmp_path / "tiny")
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("inner", ["archive", "archive/images"])
@pytest.mark.parametrize("parts", [("train",), ("train", "test"), ("fold1", "fold2")])
@pytest.mark.usefixtures("undecoded")
def test_a_folder_around_the_parts_is_named(
    tmp_path: Path, inner: str, parts: tuple[str, ...]
) -> None:
    fill(tmp_path / inner, {f"{part}/{name}": 2 for part in parts for name in ("cat", "dog")})
    with pytest.raises(DataError, match=re.escape(f"(set data.path={str(tmp_path / inner)!r})")):
        load(tmp_path)


def test_one_around_the_classes_is_told_as_it_may_be_one_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "top", {"all/a": 2, "all/b": 2})
    assert load(tmp_path / "top").class_names == ("all",)
    assert f"(set data.path={str(tmp_path / 'top' / 'all')!r})" in caplog.text
    fill(tmp_path / "set", {f"{part}/all/{name}": 2 for part in ("train", "test") for name in "ab"})
    load(tmp_path / "set")
    assert "train holds one folder, all/" in caplog.text and "(move these to" in caplog.text
    caplog.clear()
    fill(tmp_path / "split", {"train/cat/split1": 2, "train/cat/split2": 2, "test/cat": 1})
    source = load(tmp_path / "split")
    assert (source.class_names, len(source.train), len(source.test)) == (("cat",), 4, 1)
    assert "train holds one folder, cat/" in caplog.text and "'split1', 'split2'" in caplog.text
    assert "move these to" not in caplog.text
    caplog.clear()
    fill(tmp_path / "one", {"cat": 2, "cat/old": 1, "cat/new": 1})
    load(tmp_path / "one")
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("how", ["link", "links", "classes", "hard"])
@pytest.mark.usefixtures("undecoded")
def test_test_pictures_that_are_the_training_pictures_are_refused(tmp_path: Path, how: str) -> None:
    fill(tmp_path, {"train/cat": 3, "train/dog": 3})
    train, test = tmp_path / "train", tmp_path / "test"
    if how == "link":
        test.symlink_to(train)
    else:
        test.mkdir()
    for name in ("cat", "dog"):
        if how == "classes":
            (test / name).symlink_to(train / name)
        elif how in ("links", "hard"):
            (test / name).mkdir()
            for picture in (train / name).iterdir():
                make = os.link if how == "hard" else os.symlink
                make(picture, test / name / f"copy-{picture.name}")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    for words in ("all 6 pictures in", "train/cat/0.png", "test/cat/"):
        assert words in str(caught.value)


def test_some_of_them_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {"train/cat": 3, "train/dog": 3, "val/cat": 2, "val/dog": 2})
    os.link(tmp_path / "train/cat/2.png", tmp_path / "val/cat/9.png")
    assert len(load(tmp_path).test) == 5
    assert "1 of 5 pictures in" in caplog.text and "train/cat/2.png" in caplog.text


def one_more(kind: str, old: Path, new: Path) -> None:
    """Make ``new`` the same as ``old``: a linked folder, or a folder of links."""
    if kind == "folder":
        new.symlink_to(old)
        return
    pictures = list(old.iterdir())
    new.mkdir()
    for picture in pictures:
        (os.link if kind == "hard" else os.symlink)(picture, new / f"copy-{picture.name}")


@pytest.mark.parametrize("kind", ["folder", "hard", "links"])
@pytest.mark.parametrize("top", ["", "train"])
@pytest.mark.usefixtures("undecoded")
def test_a_class_that_is_another_one_by_links_is_refused(
    tmp_path: Path, kind: str, top: str
) -> None:
    """Of what is split off, most would be trained on under the other label."""
    root = tmp_path / top
    fill(root, {"Hund": 4, "Katze": 4})
    one_more(kind, root / "Katze", root / "Tabby")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    for words in ("every picture of 'Katze'", "of 'Tabby' is", "Katze/0.png", "remove the links"):
        assert words in str(caught.value)


def test_pictures_of_two_classes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {"cat": 3, "dog": 3})
    load(tmp_path)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    os.link(tmp_path / "cat/2.png", tmp_path / "dog/9.png")
    load(tmp_path)
    assert "2 of 7 pictures are there twice" in caplog.text
    assert f"{tmp_path}/dog/9.png of 'dog' is {tmp_path}/cat/2.png of 'cat'" in caplog.text


@pytest.mark.parametrize("part", ["", "train", "val"])
def test_a_file_that_is_linked_twice_in_a_class_is_there_once(tmp_path: Path, part: str) -> None:
    """Else one name of it would be trained on, and the other be tested on."""
    tops = ("train/", "val/") if part else ("",)
    fill(tmp_path, {f"{top}{name}": 5 for top in tops for name in ("cat", "dog")})
    before = folder_files(config(tmp_path))
    one_more("hard", tmp_path / part / "cat", tmp_path / part / "cat/more")
    source = load(tmp_path)
    assert len(source.train) + len(source.test) == len(before)
    assert folder_files(config(tmp_path)) == before
