"""A data set is decoded once a machine: what lies in the store is what decoding in memory gives."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.types import Scalar
from regl_app.data import decode as decode_module
from regl_app.data import picture_store, stored_squares
from regl_app.data.decode import decode
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore
from regl_app.data.pictures import JoinedPictures, StoredPictures
from regl_app.data.resize import to_square
from regl_app.data.source import Source
from regl_app.data.sources import registry
from regl_app.data.sources.registry import load_source
from regl_app.data.sources.site import SiteFolder, load_site
from regl_app.rounds.federate import federate

SIDE = 12


def save(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of 40 gray, colour and 16-bit pictures, the first ones gray."""
    random = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / f"class{number % 2}" / f"{number:03}.png"
        shape = (20, 14 + number % 5, 3) if number > 25 else (20, 14 + number % 5)
        if number % 4 == 1:
            save(path, random.integers(0, 4000, shape[:2]).astype(np.uint16))
        else:
            save(path, random.integers(0, 255, shape).astype(np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path: Path) -> PictureStore:
    return PictureStore(tmp_path / "store")


def config_of(folder: Path, **keys: object) -> DataConfig:
    flat = {"source": "folder", "path": str(folder), "image_size": SIDE, **keys}
    return DataConfig.model_validate(flat)


def forget() -> None:
    """Be as another process."""
    registry._load.cache_clear()


def assert_equal(one: ImageSet, other: ImageSet) -> None:
    assert one.images.dtype == other.images.dtype and torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)
    ours, theirs = one.originals, other.originals
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert ours.digest == theirs.digest
        assert ours.own_sides.tolist() == theirs.own_sides.tolist()


def never(*_: object) -> None:
    pytest.fail("decoded again")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"image_size": 20},
        {"fit": "pad"},
        {"depth": "range"},
        {"depth": "12-bit"},
        {"max_train": 11, "public_fraction": 0.2},
    ],
    ids=str,
)
def test_what_is_stored_is_what_is_decoded(
    folder: Path, store: PictureStore, monkeypatch: pytest.MonkeyPatch, keys: dict[str, object]
) -> None:
    config = config_of(folder, **keys)
    plain, first = load_source(config), load_source(config, store=store)
    forget()
    monkeypatch.setattr(picture_store, "decode", never)
    second = load_source(config, store=store)
    for found in (first, second):
        for part in ("train", "test"):
            images: ImageSet = getattr(found, part)
            assert isinstance(images.pixels, StoredPictures)
            assert isinstance(images.pixels.pixels, np.memmap)
            assert_equal(images, getattr(plain, part))


def test_gray_sets_stay_gray_and_a_sites_are_as_it_is_told(
    folder: Path, store: PictureStore
) -> None:
    for path in folder.rglob("*.png"):
        if int(path.stem) > 25:
            path.unlink()
    gray = load_source(config_of(folder), store=store)
    assert gray.train.shape == (1, SIDE, SIDE)
    assert_equal(gray.train, load_source(config_of(folder)).train)
    for channels in (1, 3):
        config = config_of(folder, source="site", classes="class0,class1", channels=channels)
        site = SiteFolder(folder, AllowedFolders())
        plain, found = load_site(site, config, 0, 0.3), load_site(site, config, 0, 0.3, store=store)
        assert isinstance(found.train.pixels, StoredPictures)
        assert found.train.shape == (channels, SIDE, SIDE)
        assert_equal(found.train, plain.train)
        assert_equal(found.test, plain.test)


def test_what_cannot_be_read_is_told_every_time(
    folder: Path, store: PictureStore, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "class0" / "004.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"004\.png: not a readable image"):
        load_source(config_of(folder), store=store)
    assert not list(store.root.glob("*.set"))
    config = config_of(folder, unreadable="skip")
    plain = load_source(config)
    for _ in range(2):
        forget()
        caplog.clear()
        found = load_source(config, store=store)
        assert found.unreadable == plain.unreadable == 1
        assert "1 of 40 pictures cannot be read" in caplog.text and "004.png" in caplog.text
        assert_equal(found.train, plain.train)


def test_what_can_be_read_by_now_is_read(
    folder: Path, store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, read = config_of(folder, unreadable="skip"), decode_module._read
    refused = ["004.png", "008.png"]

    def denied(name: str, *rest: Any) -> Any:
        if Path(name).name in refused:  # of a right that no size or time tells
            raise decode_module._UnreadableError(f"{name}: not a readable image", "")
        return read(name, *rest)

    monkeypatch.setattr(decode_module, "_read", denied)
    assert load_source(config, store=store).unreadable == 2
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(picture_store, "decode", never)  # the others are not decoded again
        assert load_source(config, store=store).unreadable == 2
    refused.remove("008.png")
    forget()
    assert load_source(config, store=store).unreadable == 1
    refused.clear()
    forget()
    found = load_source(config, store=store)
    assert found.unreadable == 0
    assert_equal(found.train, load_source(config).train)


def _cut(entry: Path) -> None:
    pixels = entry / "pixels.npy"
    pixels.write_bytes(pixels.read_bytes()[:-7])


def _zeros(entry: Path) -> None:
    pixels = entry / "pixels.npy"
    content = pixels.read_bytes()
    pixels.write_bytes(content[:-50] + bytes(50))


def _no_facts(entry: Path) -> None:
    (entry / "facts.json").unlink()


def _other_facts(entry: Path) -> None:
    facts = json.loads((entry / "facts.json").read_text())
    (entry / "facts.json").write_text(json.dumps(facts | {"depth": {"whole": 1}}))


def _fewer_sides(entry: Path) -> None:
    np.save(entry / "sides.npy", np.load(entry / "sides.npy")[1:])


@pytest.mark.parametrize("damage", [_cut, _zeros, _no_facts, _other_facts, _fewer_sides])
def test_a_damaged_entry_is_made_anew(
    folder: Path, store: PictureStore, damage: Callable[[Path], None]
) -> None:
    plain = load_source(config_of(folder))
    load_source(config_of(folder), store=store)
    (entry,) = store.root.glob("*.set")
    damage(entry)
    forget()
    assert_equal(load_source(config_of(folder), store=store).train, plain.train)
    assert stored_squares.read_squares(entry) is not None


def _full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stored_squares.SquaresOnDisk, "add", full)


def _read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refused)


def _too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    of = PictureStore.squares
    monkeypatch.setattr(
        PictureStore,
        "squares",
        lambda store, *rest: of(PictureStore(store.root, 40 * SIDE**2), *rest),
    )


@pytest.mark.parametrize("trouble", [_full, _read_only, _too_little])
def test_without_a_store_each_process_has_its_copy_and_says_so(
    folder: Path,
    store: PictureStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[pytest.MonkeyPatch], None],
) -> None:
    plain = load_source(config_of(folder))
    trouble(monkeypatch)
    found = load_source(config_of(folder), store=store)
    assert isinstance(found.train.pixels, torch.Tensor)
    assert_equal(found.train, plain.train)
    (line,) = [each for each in caplog.messages if "holds its own copy" in each]
    assert "\n" not in line
    assert not list(store.root.glob("*.set"))


def test_of_those_who_need_it_at_once_one_decodes(
    folder: Path, store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, found, gate = [], [], threading.Barrier(4)

    def counted(*arguments: object) -> object:
        calls.append(1)
        return decode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(picture_store, "decode", counted)

    def need() -> None:
        gate.wait()
        found.append(registry._load.__wrapped__(config_of(folder), None, store, "", False))

    threads = [threading.Thread(target=need) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(found) == 4
    for each in found:
        assert_equal(each.train, found[0].train)


def test_what_a_killed_writer_left_goes_when_the_set_is_made(
    folder: Path, store: PictureStore
) -> None:
    load_source(config_of(folder), store=store)
    (entry,) = store.root.glob("*.set")
    left, other = (store.root / f".{name}.7-0123abcd.set" for name in (entry.stem, "0" * 40))
    for each in (left, other):
        each.mkdir()
        (each / "pixels.npy").write_bytes(bytes(100))
    forget()
    load_source(config_of(folder), store=store)
    assert left.exists()  # found, so nothing is made
    (entry / "pixels.npy").unlink()
    forget()
    load_source(config_of(folder), store=store)
    assert (entry / "pixels.npy").exists() and not left.exists() and other.exists()


def _other_pixels(folder: Path) -> None:
    save(folder / "class0" / "000.png", np.full((30, 30), 7, np.uint8))


def _one_more(folder: Path) -> None:
    save(folder / "class1" / "more.png", np.full((30, 30), 7, np.uint8))


def _moved(folder: Path) -> None:
    (folder / "class0" / "000.png").rename(folder / "class1" / "000.png")


def _swapped(folder: Path) -> None:
    (folder / "class0").rename(folder / "other")
    (folder / "class1").rename(folder / "class0")
    (folder / "other").rename(folder / "class1")


@pytest.mark.parametrize("change", [_other_pixels, _one_more, _moved, _swapped])
def test_a_notebook_sees_what_has_changed(
    folder: Path, store: PictureStore, change: Callable[[Path], None]
) -> None:
    config = config_of(folder)
    before = load_source(config, store=store)
    assert load_source(config, store=store) is before
    change(folder)
    after = load_source(config, store=store)
    assert after is not before
    forget()
    plain = load_source(config)
    assert_equal(after.train, plain.train)
    assert_equal(after.test, plain.test)


def test_a_run_that_goes_on_keeps_what_it_began_with(folder: Path, store: PictureStore) -> None:
    config = config_of(folder)
    state = registry.source_state(config)
    before: Source = load_source(config, store=store, state=state)
    _one_more(folder)
    assert load_source(config, store=store, state=state) is before
    assert registry.source_state(config) != state


def test_training_and_evaluation_do_not_care_where_pictures_lie(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat: dict[str, Scalar] = {
        "data.source": "folder",
        "data.path": str(folder),
        "data.image-size": SIDE,
        "method": "fedavg",
        "objective": "moon",
        "model.width": 4,
        "train.steps": 3,
        "train.batch-size": 4,
        "train.augment": True,
        "partition.scheme": "iid",
        "long-tail.factor": 2,
        "rounds": 2,
        "device": "cpu",
        "cache-dir": str(tmp_path / "cache"),
    }
    config = RunConfig.from_flat(flat)
    stored = federate(config, 2)
    assert isinstance(Federation.load(config, 2).client(0).train.pixels, StoredPictures)
    forget()
    monkeypatch.setattr(PictureStore, "squares", lambda *_: None)
    plain = federate(config.updated({"cache-dir": str(tmp_path / "other")}), 2)
    assert isinstance(
        Federation.load(config.updated({"cache-dir": str(tmp_path / "other")}), 2)
        .client(0)
        .train.pixels,
        torch.Tensor,
    )
    for one, other in zip(stored.rounds, plain.rounds, strict=True):
        assert (one.metrics, one.tail, one.evaluated) == (
            other.metrics,
            other.tail,
            other.evaluated,
        )
    other_state = plain.model.state_dict()
    for name, value in stored.model.state_dict().items():
        assert torch.equal(value, other_state[name])


def test_joined_sets_are_as_tensors_of_them_all(folder: Path, store: PictureStore) -> None:
    real = load_source(config_of(folder), store=store).train
    made = ImageSet(real.images[:5].flip(0).contiguous(), real.labels[:5])
    joined = ImageSet.concat([real, made])
    assert isinstance(joined.pixels, JoinedPictures)
    whole = torch.cat([real.images, made.images])
    places = torch.tensor([len(real) + 1, 0, 3, len(real), 3])
    assert torch.equal(joined.pixels[places], whole[places])
    assert torch.equal(joined.pixels[3:-2], whole[3:-2])
    assert torch.equal(joined.images, whole)
    assert torch.equal(joined.first(len(real)).images, real.images)
    assert torch.equal(joined.subset([len(real), 1]).images, whole[[len(real), 1]])
    # What lies in a file is not read before it is asked for.
    assert isinstance(joined.first(len(real)).pixels, StoredPictures)
    over = joined.subset(range(len(real) - 2, len(joined)))
    assert isinstance(over.pixels, JoinedPictures)
    assert torch.equal(over.images, whole[len(real) - 2 :])
    assert torch.equal(joined.subset([len(real) + 2]).images, whole[[len(real) + 2]])
    assert len(joined.subset([])) == 0
    nothing = ImageSet.empty(real.shape)
    assert ImageSet.concat([nothing, real, nothing]).pixels is real.pixels
    assert len(ImageSet.concat([nothing, real.subset([])])) == 0


def test_many_images_of_other_sources_are_resized_once_a_machine(
    store: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (70, 3, 9, 9), dtype=torch.uint8, generator=random)
    plain = to_square(images, 20)
    assert isinstance(store.resized(images, 20), torch.Tensor)  # not worth a file
    monkeypatch.setattr(picture_store, "_LARGE", 70 * 3 * 20 * 20)
    for number in range(2):
        found = store.resized(images, 20)
        assert isinstance(found, StoredPictures) and torch.equal(found[:], plain)
        if number == 0:
            monkeypatch.setattr(stored_squares.SquaresOnDisk, "add", never)
    with pytest.raises(pytest.fail.Exception):
        store.resized(255 - images, 20)


def test_a_large_set_is_resized_in_parts_that_nobody_sees() -> None:
    images = torch.arange(5 * 3 * 7 * 9, dtype=torch.uint8).reshape(5, 3, 7, 9)
    whole = to_square(images, 40)
    assert torch.equal(whole, torch.cat([to_square(image[None], 40) for image in images]))
