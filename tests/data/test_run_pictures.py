"""What a run began with at a site stays: each picture on its side, whatever comes or goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.data.client import ClientData
from regl_app.data.images import ImageSet
from regl_app.data.run_pictures import KeptPictures
from regl_app.data.sources import site
from regl_app.data.sources.site import SiteFolder, load_site

KEYS = RunConfig.from_flat(
    {
        "data.source": "site",
        "data.classes": "cat,dog,emu",
        "data.image-size": 8,
        "data.unreadable": "skip",
        "method": "fedavg",
    }
).data


def picture(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 0, 0)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a site with twenty dogs and twenty emus, each of a colour of its own."""
    for number in range(20):
        picture(tmp_path / "site" / "dog" / f"{number:02d}.png", number)
        picture(tmp_path / "site" / "emu" / f"{number:02d}.png", 100 + number)
    return tmp_path / "site"


def at(state: Path, run: str = "run") -> KeptPictures:
    return KeptPictures.of(state, run, 0)


@pytest.fixture
def load(folder: Path, tmp_path: Path) -> Callable[..., ClientData]:
    """Return what reads the site as the messages of a run do."""

    def read(run: str = "run", config: DataConfig = KEYS) -> ClientData:
        place = SiteFolder(folder, AllowedFolders((folder.resolve(),)))
        return load_site(place, config, 0, 0.3, 0.2, kept=at(tmp_path / "kept", run))

    return read


def sides(data: ClientData) -> list[list[int]]:
    """Return the colours of what is trained on, chosen by and tested on."""

    def reds(images: ImageSet) -> list[int]:
        return [int(image[0, 0, 0]) for image in images.images]

    assert data.validation is not None
    return [reds(data.train), reds(data.validation), reds(data.test)]


def test_the_first_message_splits_as_without_a_run(
    load: Callable[..., ClientData], folder: Path
) -> None:
    plain = load_site(SiteFolder(folder, AllowedFolders()), KEYS, 0, 0.3, 0.2)
    assert sides(load()) == sides(load()) == sides(plain)


def test_the_pictures_are_read_once_and_held_once(
    load: Callable[..., ClientData], monkeypatch: pytest.MonkeyPatch
) -> None:
    site._LOADED.clear()
    first = load()
    monkeypatch.setattr(site, "read_pictures", None)
    assert load() is first
    assert load("another run") is first


def test_no_picture_changes_its_side_when_others_come(
    load: Callable[..., ClientData], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = sides(load())
    picture(folder / "dog" / "0.png", 50)
    picture(folder / "cat" / "0.png", 51)
    picture(folder / "no-class" / "0.png", 52)
    with caplog.at_level("WARNING", "regl"):
        assert sides(load()) == sides(load()) == before
    assert caplog.text.count("2 pictures have come since this run began") == 1
    shutil.rmtree(folder / "no-class")
    assert sum(map(len, sides(load("next")))) == 42
    assert sides(load()) == before


@pytest.mark.parametrize("change", ["gone", "changed", "without its folder"])
def test_what_is_gone_or_changed_is_named_and_can_be_put_back(
    load: Callable[..., ClientData], folder: Path, tmp_path: Path, change: str
) -> None:
    before = sides(load())
    kept = shutil.copytree(folder, tmp_path / "backup")
    if change == "changed":
        picture(folder / "emu" / "03.png", 3)
        os.utime(folder / "emu" / "03.png", (1, 1))
    elif change == "gone":
        (folder / "emu" / "03.png").unlink()
    else:
        shutil.rmtree(folder / "emu")
    first = "00" if change == "without its folder" else "03"
    with pytest.raises(DataError, match=rf"of the 40 pictures .*, the first is emu/{first}\.png"):
        load()
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    assert sides(load()) == before


def test_what_could_not_be_read_at_first_stays_left_out(
    load: Callable[..., ClientData], folder: Path
) -> None:
    damaged = folder / "dog" / "00.png"
    content, seen = damaged.read_bytes(), damaged.stat()
    damaged.write_bytes(b"?" * len(content))
    os.utime(damaged, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    before = load()
    assert before.unreadable == 1
    damaged.write_bytes(content)  # as a right that is given: neither size nor time tells it
    os.utime(damaged, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    site._LOADED.clear()
    again = load()
    assert sides(again) == sides(before) and again.unreadable == 1


def test_what_cannot_be_read_any_more_is_named(
    load: Callable[..., ClientData], folder: Path
) -> None:
    load()
    path = folder / "dog" / "07.png"
    length, seen = path.stat().st_size, path.stat()
    path.write_bytes(b"?" * length)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    site._LOADED.clear()
    with pytest.raises(DataError, match=r"dog/07\.png: cannot be read any more"):
        load()


def test_a_link_that_leads_out_of_the_roots_is_refused_in_a_run_too(
    load: Callable[..., ClientData], folder: Path, tmp_path: Path
) -> None:
    load()
    (folder / "dog" / "link.png").symlink_to(picture(tmp_path / "secret.png", 9))
    with pytest.raises(DataError, match=r"a file of data-dir must lie in"):
        load()


def test_a_damaged_list_is_refused(load: Callable[..., ClientData], tmp_path: Path) -> None:
    load()
    path = at(tmp_path / "kept").path
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 50).astype(int):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(DataError, match="is damaged: it says which pictures this run began"):
            load()


def test_lists_are_private_and_go_a_month_after_their_last_use(
    load: Callable[..., ClientData], tmp_path: Path
) -> None:
    load("old")
    load("used")
    old, used = at(tmp_path / "kept", "old").path, at(tmp_path / "kept", "used").path
    assert old.parent.stat().st_mode & 0o077 == 0
    for path in (old, used):
        os.utime(path, (1, 1))
    load("used")
    load("new")
    assert used.exists() and not old.parents[1].exists()


def test_any_name_of_a_file_is_kept(
    load: Callable[..., ClientData], folder: Path, tmp_path: Path
) -> None:
    (folder / "dog" / "00.png").rename(folder / "dog" / os.fsdecode(b"\xff\n\xc3\xa9.png"))
    before = sides(load())
    assert sides(load()) == before
    kept = at(tmp_path / "kept").read()
    assert kept is not None and "dog/\udcff\né.png" in [path for path, *_ in kept.files]
