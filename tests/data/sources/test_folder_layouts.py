"""Image folders as people have them: layouts, leftovers, links, endings, names, bad files."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.data.leftovers import is_leftover
from regl_app.data.source import Source
from regl_app.data.sources.folder import load_folder


def fill(root: Path, counts: Mapping[str, int], ending: str = ".png") -> Path:
    """Write as many pictures into each folder, each of another gray."""
    for place, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("L", (9, 9), 10 * place + number).save(root / name / f"{number}{ending}")
    return root


def load(root: Path, roots: AllowedFolders | None = None, **keys: object) -> Source:
    flat = {"source": "folder", "path": str(root), "image_size": 8, **keys}
    return load_folder(DataConfig.model_validate(flat), roots)


def total(source: Source) -> list[int]:
    """Return the pictures of each class, of both sets."""
    count = source.num_classes
    return (source.train.counts(count) + source.test.counts(count)).tolist()


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "training", "Training"])
@pytest.mark.parametrize(
    "test", ["test", "TEST", "Testing", "val", "Val", "valid", "validation", "dev"]
)
def test_a_training_and_a_test_folder_are_the_split(tmp_path: Path, train: str, test: str) -> None:
    fill(tmp_path / train, {"bird": 3, "cat": 3, "dog": 3})
    fill(tmp_path / test, {"bird": 2, "dog": 1})
    source = load(tmp_path)
    assert source.class_names == ("bird", "cat", "dog")
    assert source.train.counts(3).tolist() == [3, 3, 3]
    assert source.test.counts(3).tolist() == [2, 0, 1]


def test_of_three_parts_the_log_says_which_is_for_what(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1, "test/a": 2, "test/b": 2})
    with caplog.at_level(logging.INFO, "regl"):
        source = load(tmp_path)
    assert (len(source.train), len(source.test)) == (6, 4)
    assert "trained on train/, tested on test/; not used: val/" in caplog.text


def test_a_test_folder_without_labels_is_not_the_test_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, {"train/a": 4, "train/b": 4, "test": 5})
    with caplog.at_level(logging.INFO, "regl"):
        assert total(load(tmp_path)) == [4, 4]
    assert "tested on a part of it; not used: test/" in caplog.text
    fill(tmp_path, {"val/a": 1, "val/b": 1})
    source = load(tmp_path)
    assert (len(source.train), len(source.test)) == (8, 2)


def test_a_training_folder_alone_is_split(tmp_path: Path) -> None:
    fill(tmp_path, {"train/a": 10, "train/b": 10})
    source = load(tmp_path)
    assert source.class_names == ("a", "b") and source.test.counts(2).tolist() == [3, 3]


@pytest.mark.parametrize(
    "names", [("train", "car"), ("train/steam", "car/old"), ("train", "test", "car")]
)
def test_a_class_may_be_called_train(tmp_path: Path, names: tuple[str, ...]) -> None:
    fill(tmp_path, dict.fromkeys(names, 4))
    assert load(tmp_path).class_names == tuple(sorted(name.split("/")[0] for name in names))


def test_a_split_without_classes_and_a_doubtful_one_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "loose", {"train": 3, "val": 3})
    with pytest.raises(DataError, match="train has no subfolders; expected one"):
        load(tmp_path / "loose")
    fill(tmp_path / "twice", {"train/a": 3, "Train/a": 3, "test/a": 1})
    with pytest.raises(DataError, match=r"'Train' and 'train': which one is meant\?"):
        load(tmp_path / "twice")
    fill(tmp_path / "more", {"train/a": 3, "train/b": 3, "val/a": 1, "val/c": 1})
    with pytest.raises(DataError, match=r"val has classes that train/ lacks: 'c'"):
        load(tmp_path / "more")


def test_hidden_and_system_leftovers_are_no_data_at_any_depth(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 3, "cat/deep": 1, "dog": 4})
    plain = load(tmp_path)
    names = (
        ".ipynb_checkpoints", ".git", ".Trash-1000", "__MACOSX", "@eaDir", "@__thumb", "lost+found",
        "$RECYCLE.BIN", "System Volume Information", "#recycle", ".thumbnails",
    )  # fmt: skip
    for name in names:
        fill(tmp_path, {f"{place}{name}": 1 for place in ("", "cat/", "cat/deep/")})
    for place in ("", "cat", "cat/deep", "dog"):
        (tmp_path / place / "._0.png").write_bytes(b"\x00\x05\x16\x07" + bytes(99))
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "ehthumbs.db", "Icon\r"):
            (tmp_path / place / name).write_bytes(b"x")
    after = load(tmp_path)
    assert after.class_names == ("cat", "dog") and total(after) == [4, 4]
    assert after.train.images.equal(plain.train.images)


def test_pictures_that_are_called_like_nothing_special_are_no_leftovers() -> None:
    plain = ("a.png", "_x.png", "@home", "$5", "#1.png", "thumbs.png", "recycle", "~x.jpg")
    for name in (*plain, "@earth", "@EAGLE", "@snapshots of us", "@tmp_art", "@__x", "@synonym"):
        assert not is_leftover(name)


def test_folders_of_pictures_that_are_never_read_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, {"@earth": 3, "dog": 3, ".cat": 1, "dog/@eaDir/0.png": 1, "dog/in/@eaDir": 2})
    (tmp_path / ".git").mkdir()
    with caplog.at_level(logging.INFO, "regl"):
        assert load(tmp_path).class_names == ("@earth", "dog")
    assert "never read, though pictures are in them: 2 '@eaDir', 1 '.cat'" in caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_links_are_followed_and_each_picture_is_taken_once(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", {"cat": 2, "dog": 3})
    fill(tmp_path / "store", {"2024": 4, "2024/deep": 1, "emu": 3})
    (root / "cat" / "2024").symlink_to(tmp_path / "store" / "2024")
    (root / "cat" / "again").symlink_to(tmp_path / "store" / "2024")
    (root / "emu").symlink_to(tmp_path / "store" / "emu")
    (root / "dog" / "9.png").symlink_to(tmp_path / "store" / "emu" / "0.png")
    (root / "dog" / "copy.png").symlink_to(root / "dog" / "0.png")
    assert total(load(root)) == [7, 4, 3]


def test_circles_of_links_end(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", {"cat": 2, "cat/in": 1, "dog": 3})
    (root / "cat" / "in" / "up").symlink_to(root / "cat")
    (root / "cat" / "top").symlink_to(root)
    (root / "dog" / "self").symlink_to("self")
    assert total(load(root)) == [3, 3]


def test_links_that_lead_nowhere_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = fill(tmp_path, {"cat": 4, "dog": 4})
    (root / "cat" / "lost.png").symlink_to(tmp_path / "gone.png")
    assert total(load(root)) == [4, 4]
    assert "1 links that lead nowhere" in caplog.text


@pytest.mark.parametrize("link", ["cat/out", "cat/out.png", "out"])
def test_no_link_leads_out_of_the_allowed_folders(tmp_path: Path, link: str) -> None:
    root = fill(tmp_path / "set", {"cat": 4, "dog": 4, ".more": 4})
    secret = fill(tmp_path / "secret", {"x": 2}) / "x"
    (root / "cat" / "in").symlink_to(root / ".more")
    allowed = AllowedFolders((root.resolve(),))
    assert total(load(root, allowed)) == [8, 4]
    (root / link).symlink_to(secret / "0.png" if link.endswith(".png") else secret)
    with pytest.raises(DataError, match=r"of data.path must lie in .*data-root="):
        load(root, allowed)
    load(root)


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".pgm", ".pnm", ".jp2", ".tga", ".JPEG"])
def test_a_class_of_unusual_endings_is_read(tmp_path: Path, ending: str) -> None:
    fill(tmp_path, {"cat": 4})
    (tmp_path / "dog").mkdir()
    for number in range(4):
        kind = {".jfif": "JPEG", ".jpe": "JPEG", ".pnm": "PPM", ".pgm": "PPM"}.get(ending)
        Image.new("L", (9, 9), number).save(tmp_path / "dog" / f"{number}{ending}", kind)
    assert total(load(tmp_path)) == [4, 4]


def test_what_is_not_read_is_counted_by_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regl_app.data.class_folders.endings", lambda: frozenset({".png"}))
    monkeypatch.setattr(
        "regl_app.data.class_folders.remedy_for", lambda ending: "do this" * (ending == ".heic")
    )
    fill(tmp_path, {"cat": 4, "dog": 4, ".": 2})
    for name in ("1.HEIC", "2.heic", "3.CR2", "README", "notes.txt"):
        (tmp_path / "dog" / name).write_bytes(b"x")
    assert total(load(tmp_path)) == [4, 4]
    for words in ("2 .heic (do this)", "1 .cr2", "1 .txt", "1 without ending", "2 pictures beside"):
        assert words in caplog.text


def test_notes_alone_are_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {"cat": 4, "dog": 4})
    (tmp_path / "dog" / "labels.csv").write_text("x")
    load(tmp_path)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_classes_without_an_image_are_named_and_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 4, "dog": 4, "empty": 0, "raw": 0})
    (tmp_path / "raw" / "1.cr2").write_bytes(b"x")
    (tmp_path / "raw" / "2.cr2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"without an image .*'empty' \(empty\), 'raw' \(2 \.cr2\)"):
        load(tmp_path)


def test_accents_are_the_same_however_they_are_composed(tmp_path: Path) -> None:
    decomposed, composed = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    fill(tmp_path, {f"train/{decomposed}": 3, "train/tea": 3, f"test/{composed}": 2, "test/tea": 1})
    source = load(tmp_path)
    assert source.class_names == (composed, "tea") and source.test.counts(2).tolist() == [2, 1]
    fill(tmp_path / "both", {decomposed: 3, composed: 4, "tea": 3})
    assert total(load(tmp_path / "both")) == [7, 3]


def test_names_of_any_script_and_with_any_mark_are_classes(tmp_path: Path) -> None:
    names = (
        "Pepper,_bell___healthy",
        "-dash",
        "with space ",
        "<b>x&y",
        "日本語",
        "10",
        "[red]",
        "$x$",
    )
    fill(tmp_path, dict.fromkeys(names, 4))
    assert load(tmp_path).class_names == tuple(sorted(names))


def test_a_class_whose_name_no_file_of_a_run_can_hold_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, {os.fsdecode(b"caf\xe9"): 4, "tea": 4})  # as an archive from elsewhere has it
    with pytest.raises(DataError, match=r"no UTF-8: 'caf\\xe9' \(rename it"):
        load(tmp_path)


def test_one_bad_file_is_refused_or_skipped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, {"cat": 12, "dog": 12})
    whole = load(tmp_path)
    for number, content in enumerate(
        (b"", b"no picture", (tmp_path / "cat/0.png").read_bytes()[:40])
    ):
        (tmp_path / "cat" / f"bad{number}.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad0\.png: not a readable image .*data\.unreadable=skip"):
        load(tmp_path)
    skipped = load(tmp_path, unreadable="skip")
    assert skipped.train.images.equal(whole.train.images) and skipped.unreadable == 3
    assert "3 of 27 pictures cannot be read and are left out" in caplog.text
    assert "bad1.png" in caplog.text and whole.unreadable == 0


def test_the_split_is_right_where_files_are_skipped(tmp_path: Path) -> None:
    fill(tmp_path, {"train/a": 5, "train/b": 5, "val/a": 3, "val/b": 3})
    for name in ("train/a/1.png", "val/a/0.png", "val/b/2.png"):
        (tmp_path / name).write_bytes(b"x")
    source = load(tmp_path, unreadable="skip")
    assert source.train.counts(2).tolist() == [4, 5] and source.test.counts(2).tolist() == [2, 2]
    assert source.train.images[:4, 0, 0, 0].tolist() == [0, 2, 3, 4]
    assert source.test.images[:, 0, 0, 0].tolist() == [21, 22, 30, 31]


def test_a_class_of_bad_files_alone_is_refused_though_they_are_skipped(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 4, "dog": 0})
    (tmp_path / "dog" / "0.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no picture of 'dog' can be read"):
        load(tmp_path, unreadable="skip")
    (tmp_path / "cat" / "0.png").write_bytes(b"x")
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="not a readable image"):
        load(tmp_path, unreadable="skip")


def test_too_large_a_picture_says_so_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"cat": 4, "dog": 4})
    Image.new("L", (60, 60)).save(tmp_path / "cat" / "slide.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"slide\.png: too large an image .*at most 2,000"):
        load(tmp_path)
    assert load(tmp_path, unreadable="skip").unreadable == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 4, "cat/shut": 1, "dog": 4})
    (tmp_path / "cat" / "shut").chmod(0)
    with pytest.raises(DataError, match="shut cannot be read"):
        load(tmp_path)


def test_deep_gray_of_both_parts_has_one_rule(tmp_path: Path) -> None:
    for part, most in (("train", 65535), ("val", 4095)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            image = Image.fromarray(np.full((8, 8), most, np.uint16))
            image.save(tmp_path / part / name / "0.png")
    source = load(tmp_path)
    assert source.train.images.unique().tolist() == [255]
    assert source.test.images.unique().tolist() == [16]
