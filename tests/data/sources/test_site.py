"""A site's own folder: read, checked, split, and nothing outside of what the operator allows."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import ConfigError, DataError
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.data.run_pictures import KeptPictures
from regl_app.data.sources.registry import load_source
from regl_app.data.sources.site import SiteFolder, load_site


def keys(**changes: Scalar) -> DataConfig:
    flat: dict[str, Scalar] = {
        "data.source": "site",
        "data.classes": "cat, dog,emu",
        "data.image-size": 8,
        "method": "fedavg",
    }
    return RunConfig.from_flat(flat | changes).data


def picture(path: Path, value: int, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (12, 10), value if mode == "L" else (value, 0, 0)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a site with ten dogs and five emus."""
    for number in range(10):
        picture(tmp_path / "site" / "dog" / f"{number}.png", number)
    for number in range(5):
        picture(tmp_path / "site" / "emu" / "deep" / f"{number}.jpg", 100 + number)
    return tmp_path / "site"


def load(path: Path, config: DataConfig, roots: AllowedFolders | None = None, client: int = 0):  # type: ignore[no-untyped-def]
    return load_site(SiteFolder(path, roots or AllowedFolders()), config, client, 0.2)


def test_labels_are_the_federations_and_a_test_part_is_split_off(folder: Path) -> None:
    held = load(folder, keys())
    assert held.train.counts(3).tolist() == [0, 8, 4]
    assert held.test.counts(3).tolist() == [0, 2, 1]
    assert held.train.shape == (3, 8, 8)
    again = load(folder, keys())
    assert torch.equal(again.test.images, held.test.images)
    assert not torch.equal(load(folder, keys(**{"data.seed": 1})).test.images, held.test.images)


def test_a_part_of_what_is_trained_on_is_held_out(folder: Path) -> None:
    plain = load(folder, keys())
    held = load_site(SiteFolder(folder, AllowedFolders()), keys(), 0, 0.2, 0.25)
    assert plain.validation is None and held.validation is not None
    assert torch.equal(plain.test.images, held.test.images)
    assert held.validation.counts(3).tolist() == [0, 2, 1]
    assert held.train.counts(3).tolist() == [0, 6, 3]

    def reds(*parts: ImageSet) -> list[int]:
        return sorted(int(image[0, 0, 0]) for part in parts for image in part.images)

    assert reds(held.train, held.validation) == reds(plain.train)


def test_images_become_what_the_classifier_sees(folder: Path) -> None:
    picture(folder / "cat" / "gray.png", 77, "L")
    colour, gray = load(folder, keys()).train, load(folder, keys(**{"data.channels": 1})).train
    (cat,) = colour.images[colour.labels == 0]
    assert cat.shape == (3, 8, 8) and cat.unique().tolist() == [77]
    assert gray.shape == (1, 8, 8)


def test_a_new_image_is_seen_although_folders_are_cached(folder: Path) -> None:
    assert len(load(folder, keys()).train) == 12
    picture(folder / "cat" / "new.png", 1)
    assert load(folder, keys()).train.counts(3).tolist() == [1, 8, 4]


def test_an_absent_an_empty_and_a_strange_folder_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"data-dir='.*absent' is not a folder.*cat,dog,emu"):
        load(tmp_path / "absent", keys())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty: it has no subfolder"):
        load(tmp_path / "empty", keys())
    (tmp_path / "empty" / "dog").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        load(tmp_path / "empty", keys())
    (folder / "dogs").mkdir()
    with pytest.raises(DataError, match=r"subfolder 'dogs'.*did you mean 'dog'\?"):
        load(folder, keys())


def test_every_unreadable_file_is_named(folder: Path) -> None:
    good = (folder / "dog" / "0.png").read_bytes()
    (folder / "dog" / "torn.png").write_bytes(good[: len(good) // 2])
    (folder / "emu" / "text.png").write_text("no picture")
    with pytest.raises(DataError) as caught:
        load(folder, keys())
    assert "torn.png" in str(caught.value) and "text.png" in str(caught.value)


def test_postscript_under_a_pictures_name_reaches_no_interpreter(folder: Path) -> None:
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    (folder / "dog" / "x.png").write_text(text)
    with pytest.raises(DataError, match=r"x\.png: .*cannot identify image file"):
        load(folder, keys())


def test_neither_the_folder_nor_a_file_in_it_leads_out_of_the_roots(
    tmp_path: Path, folder: Path
) -> None:
    allowed = AllowedFolders.parse(str(folder))
    assert len(load(folder, keys(), allowed).train) == 12
    secret = picture(tmp_path / "elsewhere" / "dog" / "secret.png", 9)
    for path in (secret.parents[1], folder / ".." / "elsewhere"):
        with pytest.raises(DataError, match=r"data-dir must lie in .*data-root="):
            load(path, keys(), allowed)
    (folder / "dog" / "link.png").symlink_to(secret)
    with pytest.raises(DataError, match=r"a file of data-dir .*link.png.*which is .*secret.png"):
        load(folder, keys(), allowed)


def test_roots_are_absolute_folders(tmp_path: Path) -> None:
    both = AllowedFolders.parse(f"{tmp_path}:{tmp_path.parent}")
    assert both.folders == (tmp_path.resolve(), tmp_path.parent.resolve())
    assert not both.holds(Path("/"))
    for wrong in ("images", str(tmp_path / "absent")):
        with pytest.raises(ConfigError, match="data-root must be absolute paths of folders"):
            AllowedFolders.parse(wrong)


def test_the_server_has_the_classes_and_maybe_a_test_folder(folder: Path) -> None:
    bare = load_source(keys())
    assert bare.class_names == ("cat", "dog", "emu") and bare.test.shape == (3, 8, 8)
    assert len(bare.train) == len(bare.test) == 0
    tested = load_source(keys(**{"data.path": str(folder)}))
    assert tested.test.counts(3).tolist() == [0, 10, 5] and len(tested.train) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.classes": ""}, "needs data.classes"),
        ({"data.classes": "cat,cat"}, "at least two different"),
        ({"data.classes": "cat,../dog"}, "must be names of subfolders, got '../dog'"),
        ({"data.classes": "cat,,dog"}, "must be names of subfolders, got ''"),
        ({"data.channels": 2}, "data.channels must be one of 1 or 3"),
        ({"method": "central"}, "contradicts method='central'"),
        ({"long-tail.factor": 10.0}, "contradicts long-tail.factor=10.0"),
    ],
)
def test_contradictory_keys_are_refused(changes: dict[str, Scalar], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        keys(**changes)


def test_sixteen_bit_gray_becomes_colour(folder: Path) -> None:
    deep = np.full((9, 9), 65535, dtype=np.uint16)
    (folder / "cat").mkdir()
    Image.fromarray(deep).save(folder / "cat" / "deep.png")
    train = load(folder, keys()).train
    assert train.images[train.labels == 0].unique().tolist() == [255]


def test_leftovers_links_and_unusual_endings_are_treated_as_in_any_folder(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("", "dog", "emu/deep"):
        for name in ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "lost+found"):
            picture(folder / place / name / "0.png", 1)
    (folder / "dog" / "._0.png").write_bytes(bytes(9))
    (folder / "dog" / "up").symlink_to(folder)
    (folder / "dog" / "emus").symlink_to(folder / "emu" / "deep")
    picture(folder / "emu" / "own.png", 1)
    (folder / "dog" / "RAW_1.CR2").write_bytes(bytes(9))
    Image.new("L", (9, 9), 7).save(folder / "emu" / "x.jfif", "JPEG")
    held = load(folder, keys(), AllowedFolders((folder.resolve(),)))
    assert (held.train.counts(3) + held.test.counts(3)).tolist() == [0, 15, 7]
    assert held.left_out == "1 .cr2" and "1 .cr2" in caplog.text


def test_pictures_of_two_classes_are_told_or_refused_and_hard_links_are_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load(folder, keys()).train.counts(3).tolist()
    for number in range(9):
        os.link(folder / "dog" / f"{number}.png", folder / "dog" / f"again-{number}.png")
    assert load(folder, keys()).train.counts(3).tolist() == before
    assert "there twice" not in caplog.text
    (folder / "cat").mkdir()
    os.link(folder / "dog" / "0.png", folder / "cat" / "0.png")
    kept = KeptPictures.of(folder.parent / "state", "run", 0)
    for _ in range(2):
        with pytest.raises(DataError, match=r"data-dir=.*: every picture of 'cat'.*dog/0"):
            load_site(SiteFolder(folder, AllowedFolders()), keys(), 0, 0.2, kept=kept)
    picture(folder / "cat" / "1.png", 1)
    load(folder, keys())
    assert f"data-dir={str(folder)!r}: 2 of 17 pictures are there twice" in caplog.text


def test_no_linked_folder_leads_out_of_the_roots(tmp_path: Path, folder: Path) -> None:
    secret = picture(tmp_path / "elsewhere" / "dog" / "secret.png", 9).parent
    for link in (folder / "cat", folder / "dog" / "more"):
        link.symlink_to(secret)
        with pytest.raises(DataError, match=r"a folder of data-dir must lie in"):
            load(folder, keys(), AllowedFolders((folder.resolve(),)))
        assert len(load(folder, keys()).train)
        link.unlink()


def test_an_empty_class_is_lacked_and_one_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "cat").mkdir()
    assert load(folder, keys()).train.counts(3)[0] == 0
    (folder / "cat" / "1.CR2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"not one can be read: 'cat' \(1 \.cr2\)"):
        load(folder, keys())


def test_accents_are_the_same_however_they_are_composed(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    picture(tmp_path / decomposed / "0.png", 1)
    for typed in (decomposed, unicodedata.normalize("NFC", "café")):
        held = load(tmp_path, keys(**{"data.classes": f"{typed},tea"}))
        assert held.train.counts(2).tolist() == [1, 0]


@pytest.mark.parametrize("name", ["Pepper,_bell___healthy", "-dash", " spaced ", "日本語", "[red]"])
def test_a_name_with_any_mark_is_named_by_a_json_list(tmp_path: Path, name: str) -> None:
    picture(tmp_path / name / "0.png", 1)
    held = load(tmp_path, keys(**{"data.classes": json.dumps(["other", name])}))
    assert held.train.counts(2).tolist() == [0, 1]
    with pytest.raises(DataError, match=r"is not in data\.classes") as caught:
        load(tmp_path, keys(**{"data.classes": '["x,1", "y"]'}))
    assert """'["x,1", "y"]'""" in str(caught.value)


def test_bad_files_are_skipped_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "dog" / "bad.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"bad\.png: not a readable image"):
        load(folder, keys())
    held = load(folder, keys(**{"data.unreadable": "skip"}))
    assert held.unreadable == 1 and len(held.train) + len(held.test) == 15
    assert "1 of 16 pictures cannot be read" in caplog.text and "bad.png" in caplog.text


def test_a_class_that_loses_all_its_pictures_is_refused(tmp_path: Path, folder: Path) -> None:
    skip = keys(**{"data.unreadable": "skip"})
    for number in range(3):
        (picture(folder / "cat" / f"{number}.png", 1)).write_bytes(b"x")
    with pytest.raises(DataError, match=r"data-dir='.*site': no picture of 'cat' can be read"):
        load(folder, skip)
    with pytest.raises(DataError, match=r"data\.path='.*site': no picture of 'cat' can be read"):
        load_source(keys(**{"data.unreadable": "skip", "data.path": str(folder)}))
    picture(folder / "cat" / "0.png", 1)
    assert load(folder, skip).train.counts(3).tolist() == [1, 8, 4]


def test_a_turned_and_a_transparent_picture_are_as_in_any_folder(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = np.zeros((8, 8, 3), np.uint8)
    lying[:4] = 255
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    Image.fromarray(lying).save(tmp_path / "cat" / "0.png", exif=exif)
    Image.new("RGBA", (8, 8)).save(tmp_path / "dog" / "0.png")
    images = load(tmp_path, keys()).train.images
    assert (images[0, :, :, 4:] == 255).all() and (images[0, :, :, :4] == 0).all()
    assert (images[1] == 255).all()


def test_warnings_name_their_site_and_come_once_however_often_it_is_loaded(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three sites in one process push one another out of what it holds, in every round."""
    sites = [folder.with_name(f"site-{number}") for number in range(3)]
    for site in sites:
        shutil.copytree(folder, site)
        (site / "dog" / "bad.png").write_bytes(b"x")
        (site / "dog" / "RAW_1.CR2").write_bytes(b"x")
        os.link(site / "dog" / "0.png", site / "emu" / "0.png")
    skip = keys(**{"data.unreadable": "skip", "data.max-train": 1})
    for run in ("one", "another"):
        caplog.clear()
        for _ in range(2):
            for number, site in enumerate(sites):
                kept = KeptPictures.of(folder.parent / "state", run, number)
                load_site(SiteFolder(site, AllowedFolders()), skip, number, 0.2, kept=kept)
        told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        for site in sites:
            own = [words for words in told if words.startswith(f"data-dir={str(site)!r}: ")]
            assert len(own) == 4, told
        assert len(told) == 12
