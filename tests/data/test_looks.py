"""Feature shift: what looks do, whose images they are of, and what a generator is tuned on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.config import RunConfig
from regl_app.config.looks import look_names
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.looked import Looked, LookedPictures
from regl_app.data.looks import STEPS, Look, parse_looks
from regl_app.data.picture_store import PictureStore, UnstoredPictures

LOOKS = "plain,rotated:90,inverted"
SETTINGS = {"data.max-train": 90, "data.max-test": 60, "partition.scheme": "iid"}


def pictures(channels: int = 3, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, channels, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", STEPS)
def test_a_look_is_the_same_each_time_and_of_each_image_alone(name: str) -> None:
    images, look = pictures(), Look.parse(name)
    found = look.of(images)
    assert found.shape == images.shape and found.dtype == torch.uint8
    assert not torch.equal(found, images) and torch.equal(images, pictures())
    turned = look.of(images.flip(0)).flip(0)
    assert torch.equal(found, turned)
    assert look.of(images[:0]).shape == (0, 3, 16, 16)


def test_amounts_and_order_count() -> None:
    images = pictures(1)
    assert torch.equal(Look.parse("plain").of(images), images)
    assert torch.equal(Look.parse("rotated:90").of(images), torch.rot90(images, 1, (-2, -1)))
    assert torch.equal(Look.parse("rotated:-270").of(images), torch.rot90(images, 1, (-2, -1)))
    assert torch.equal(Look.parse("dimmed:0").of(images), torch.zeros_like(images))
    dark = Look.parse("dimmed+inverted").of(images), Look.parse("inverted+dimmed").of(images)
    assert dark[0].float().mean() > 180 and dark[1].float().mean() < 75
    flat = torch.full((1, 1, 64, 64), 128, dtype=torch.uint8)
    assert 9 < Look.parse("noisy:10").of(flat).float().std() < 11
    warm = Look.parse("tinted:1").of(torch.full((1, 3, 8, 8), 200, dtype=torch.uint8))
    assert warm[0, :, 0, 0].tolist() == [200, 100, 0]


def test_blur_is_as_wide_on_larger_pictures() -> None:
    small, large = torch.zeros(1, 1, 33, 33), torch.zeros(1, 1, 132, 132)
    small[..., 16:17, 16:17], large[..., 64:68, 64:68] = 255, 255
    look = Look.parse("blurred:2")
    one = look.of(small.to(torch.uint8))
    four = look.of(large.to(torch.uint8), 4.0)
    widths = [float((each[0, 0].amax(0) > each.max() / 2).sum()) for each in (one, four)]
    assert abs(widths[1] / widths[0] - 4) < 0.8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sepia", r"must be of plain, rotated, .* got 'sepia' in 'sepia'"),
        ("plain,", "got '' in"),
        ("plain, inverted+Blurred", "got 'Blurred'"),
        ("inverted:2", "'inverted' takes no amount"),
        ("rotated:x", r"of 'rotated' must be a number from -360 to 360, got 'rotated:x'"),
        ("noisy:nan", "of 'noisy' must be a number"),
        ("dimmed:2", "of 'dimmed' must be a number from 0 to 1"),
    ],
)
def test_what_is_no_look_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_looks(text)


def test_a_tint_needs_colour() -> None:
    with pytest.raises(ConfigError, match="'tinted' is for colour"):
        Federation.load(RunConfig.from_flat({**SETTINGS, "partition.looks": "tinted"}), 2)


def same(one: ImageSet, other: ImageSet) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("more", [{}, {"long-tail.factor": 5.0}])
def test_clients_train_and_are_tested_in_their_look(more: dict[str, float]) -> None:
    keys = {**SETTINGS, **more}
    plain = Federation.load(RunConfig.from_flat(keys), 4)
    seen = Federation.load(RunConfig.from_flat({**keys, "partition.looks": LOOKS}), 4)
    looks = parse_looks(LOOKS)
    for client in range(4):
        before, after = plain.client(client), seen.client(client)
        look = looks[client % 3]
        for part in ("train", "test"):
            one: ImageSet = getattr(before, part)
            expected = ImageSet(look.of(one.images), one.labels)
            assert len(one) and same(expected, getattr(after, part))
    everything = {"method": "central", **keys, "partition.looks": LOOKS}
    central = Federation.load(RunConfig.from_flat(everything), 4)
    assert same(central.client(0).train, seen.pooled())
    assert not same(plain.pooled(), seen.pooled())
    if more:
        assert seen.tail_test is not None and plain.tail_test is not None
        assert torch.equal(seen.tail_test.labels, plain.tail_test.labels)
        assert not same(seen.tail_test, plain.tail_test)


def test_the_servers_test_set_is_the_mixture_that_clients_hold() -> None:
    keys = {**SETTINGS, "data.max-test": 0, "partition.scheme": "quantity", "partition.beta": 1.0}
    plain = Federation.load(RunConfig.from_flat(keys), 3)
    seen = Federation.load(RunConfig.from_flat({**keys, "partition.looks": LOOKS}), 3)
    test = plain.source.test.images
    held = np.array([len(part) for part in plain.parts()])
    shares = []
    for look in parse_looks(LOOKS):
        looked = look.of(test)
        shares.append(float((looked == seen.source.test.images).all(3).all(2).all(1).sum()))
    assert sum(shares) == len(test)
    assert np.abs(np.array(shares) / len(test) - held / held.sum()).max() < 0.06


def larger_originals(folder: Path, count: int, side: int) -> dict[str, Scalar]:
    """Write colour pictures of two classes; return the keys by which they are seen at 16 pixels."""
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return {
        "data.source": "folder",
        "data.path": str(folder),
        "data.image-size": 16,
        "partition.scheme": "iid",
    }


def test_what_a_generator_is_tuned_on_is_in_the_clients_look(tmp_path: Path) -> None:
    keys = larger_originals(tmp_path / "set", 24, 32)
    plain = Federation.load(RunConfig.from_flat(keys), 3)
    seen = Federation.load(RunConfig.from_flat({**keys, "partition.looks": LOOKS}), 3)
    store, full = PictureStore(tmp_path / "store"), PictureStore(tmp_path / "full", max_bytes=1)
    for client, look in enumerate(parse_looks(LOOKS)):
        one, other = plain.client(client).train.originals, seen.client(client).train.originals
        assert one is not None and other is not None
        expected = look.of(store.pictures(one, 32)[0:50])
        assert len(expected) and torch.equal(store.pictures(other, 32)[0:50], expected)
        assert torch.equal(full.pictures(other, 32)[0:50], expected)
        assert isinstance(full.pictures(one, 32), UnstoredPictures)
        assert one.digest != other.digest
        assert torch.equal(store.pictures(other.alone(), 32)[0:50], expected)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_pictures_are_stored_once_and_plain_whatever_the_partition(tmp_path: Path) -> None:
    keys = larger_originals(tmp_path / "set", 30, 24)
    plain = RunConfig.from_flat({**keys, "cache-dir": str(tmp_path / "cache")})
    store = PictureStore.of(plain)
    before = Federation.load(plain, 2).source
    assert before.train.originals is not None
    wanted = store.pictures(before.train.originals, 24)[:]
    taken = _bytes(tmp_path / "cache")
    for clients in (2, 3, 8):
        seen = Federation.load(plain.updated({"partition.looks": LOOKS}), clients)
        parts = seen.parts()
        for client, part in enumerate(parts):
            look, held = parse_looks(LOOKS)[client % 3], seen.source.train.subset(part)
            assert isinstance(held.pixels, LookedPictures) and held.originals is not None
            assert torch.equal(held.images, look.of(before.train.images[part]))
            some = held.subset([1, 0]).pixels  # read one by one as all at once
            assert torch.equal(some[:1], held.images[1:2])
            assert torch.equal(some[torch.tensor([1])], held.images[:1])
            large = store.pictures(held.originals, 24)
            assert torch.equal(large[:], look.of(wanted[part], 1.5))
    assert _bytes(tmp_path / "cache") == taken


@pytest.mark.parametrize("name", STEPS)
def test_a_look_does_not_depend_on_how_many_are_seen_at_once(name: str) -> None:
    images = torch.cat([pictures(side=48).roll(shift, -1) for shift in range(40)])
    looked = Looked((Look.parse(name),), np.zeros(len(images), dtype=np.int64), 32)
    whole = Look.parse(name).of(images, 1.5)
    assert torch.equal(looked.of(images), whole)
    assert torch.equal(looked.subset(slice(7, 8)).of(images[7:8]), whole[7:8])


def test_looks_are_named_as_they_are_written() -> None:
    assert look_names(LOOKS) == ("plain", "rotated:90", "inverted") and look_names(" ") == ()
    config = RunConfig.from_flat({"partition.looks": LOOKS})
    assert config.partition.words == f"Dirichlet labels with β = 0.01, seen {LOOKS}"
