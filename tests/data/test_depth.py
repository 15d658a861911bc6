"""Deep greyscale becomes 8 bits by one rule for a whole set, never picture by picture."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from regl_app.config.sections import DataConfig, DepthRule
from regl_app.data.decode import Decoded, decode_images
from regl_app.data.depth import Extent, Scale, UsedDepth, agreed, depth_of
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_store import PictureStore
from regl_app.data.read_alike import read_alike, used_depth
from regl_app.data.read_pictures import read_pictures

RAMP = np.linspace(0, 1, 64).reshape(8, 8)
RAMP_8 = np.round(RAMP * 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def deep(values: npt.ArrayLike, kind: str = "PNG", type_: type = np.uint16) -> bytes:
    return encoded(Image.fromarray(np.asarray(np.round(values), type_)), kind)


def floats(values: npt.ArrayLike) -> bytes:
    return encoded(Image.fromarray(np.asarray(values, np.float32)), "TIFF")


def big_endian(values: npt.ArrayLike) -> bytes:
    content = np.round(values).astype(">u2")
    image = Image.frombytes("I;16B", content.shape[::-1], content.tobytes())
    return encoded(image, "TIFF")


def pgm(values: npt.ArrayLike, most: int, plain: bool = False) -> bytes:
    pixels = np.round(values).astype(">u2")
    head = f"P{2 if plain else 5}\n8 8\n{most}\n".encode()
    return head + (" ".join(map(str, pixels.ravel())).encode() if plain else pixels.tobytes())


def decoded(*files: bytes, depth: DepthRule = "auto") -> Decoded:
    named = [(f"picture {place}", content) for place, content in enumerate(files)]
    return decode_images(named, 8, depth=depth)


def pixels(*files: bytes, depth: DepthRule = "auto") -> list[npt.NDArray[np.uint8]]:
    images = decoded(*files, depth=depth).images
    assert images.shape[1] == 1
    return [image[0].numpy() for image in images]


@pytest.mark.parametrize(
    "file",
    [
        deep(RAMP * 65535),
        deep(RAMP * 65535, "TIFF"),
        big_endian(RAMP * 65535),
        deep(RAMP * 65535, "TIFF", np.int32),
        pgm(RAMP * 65535, 65535),
        pgm(RAMP * 65535, 65535, plain=True),
        pgm(RAMP * 4095, 4095),
        pgm(RAMP * 1000, 1000, plain=True),
        encoded(Image.fromarray(np.round(RAMP * 65535).astype(np.uint16)), "JPEG2000"),
        deep(RAMP * 4095),
        big_endian(RAMP * 4095),
        deep(RAMP * 255),
        floats(RAMP),
        floats(RAMP * 255),
        floats(RAMP * 4095),
        floats(RAMP * 65535),
        floats(RAMP * 10),
        floats(RAMP * 2 - 1),
        floats(RAMP * 4000 - 1000),
        deep(RAMP * 4000 - 1000, "TIFF", np.int32),
        deep(RAMP * 4e6, "TIFF", np.int32),
    ],
)
def test_a_ramp_is_a_ramp_however_it_is_stored(file: bytes) -> None:
    (found,) = pixels(file)
    assert np.abs(found.astype(int) - RAMP_8).max() <= 1


def test_sixteen_bits_are_what_they_were() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (8, 8))
    values[0, 0] = 65535
    assert np.array_equal(pixels(deep(values))[0], np.round(values * (255 / 65535)))
    small = np.arange(64).reshape(8, 8) * 4
    assert np.array_equal(pixels(deep(small))[0], small)


def test_one_count_more_does_not_change_the_scale() -> None:
    """Two frames of one scanner, with maxima 255 and 256, stay as they are to one another."""
    dim, bright = pixels(deep(RAMP * 255), deep(RAMP * 256))
    assert np.abs(dim.astype(int) - bright).max() <= 1


@pytest.mark.parametrize("store", [deep, big_endian, floats])
@pytest.mark.parametrize("share", [0.5, 0.05, 0.01])
def test_a_dark_picture_stays_dark_beside_a_bright_one(store: object, share: float) -> None:
    dark, bright = pixels(store(RAMP * 65535 * share), store(RAMP * 65535))  # type: ignore[operator]
    assert np.abs(dark - RAMP * 255 * share).max() <= 1 and bright.max() == 255


def test_floats_and_whole_numbers_have_a_rule_each() -> None:
    share, deep_one = pixels(floats(RAMP), deep(RAMP * 65535))
    assert np.abs(share.astype(int) - deep_one).max() <= 1


def test_eight_bits_beside_deep_ones_are_left_as_they_are() -> None:
    shallow = encoded(Image.fromarray(RAMP_8), "PNG")
    assert np.array_equal(pixels(shallow, deep(RAMP * 4095))[0], RAMP_8)


def test_twelve_bits_in_the_file_are_heeded_though_no_pixel_reaches_them() -> None:
    """A TIFF of 12 bits a sample, packed, whose highest value is 200: Pillow writes none."""
    values = np.full(64, 200)
    packed = bytearray()
    for a, b in zip(values[::2], values[1::2], strict=True):
        packed += bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
    tags = [
        (256, 3, 8), (257, 3, 8), (258, 3, 12), (259, 3, 1), (262, 3, 1),
        (273, 4, 8), (277, 3, 1), (278, 3, 8), (279, 4, len(packed)),
    ]  # fmt: skip
    import struct

    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    file = b"II*\0" + struct.pack("<I", 8 + len(packed)) + bytes(packed) + directory + bytes(4)
    assert pixels(file)[0].tolist() == np.full((8, 8), round(200 * 255 / 4095)).tolist()


def test_a_tiff_in_which_zero_is_white_is_turned_over() -> None:
    image = Image.fromarray(np.round(RAMP * 65535).astype(np.uint16))
    file = encoded(image, "TIFF", tiffinfo={262: 0})
    assert np.abs(pixels(file)[0].astype(int) - RAMP_8[::-1, ::-1]).max() <= 1


def test_a_transparent_value_of_deep_gray_is_white() -> None:
    image = Image.fromarray(np.round(RAMP * 65535).astype(np.uint16))
    found = pixels(encoded(image, "PNG", transparency=0))[0]
    assert found[0, 0] == 255 and found[0, 1] == RAMP_8[0, 1]


def test_what_is_no_number_is_black_and_does_not_set_the_range() -> None:
    values = RAMP.copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    (found,) = pixels(floats(values))
    assert found[0, :3].tolist() == [0, 255, 0] and found[7, 7] == 255
    assert pixels(floats(np.full((8, 8), np.nan)))[0].max() == 0


@pytest.mark.parametrize(
    ("depth", "most"),
    [("8-bit", 255), ("10-bit", 1023), ("12-bit", 4095), ("14-bit", 16383), ("16-bit", 65535)],
)
def test_the_range_can_be_named(depth: DepthRule, most: int) -> None:
    for file in (deep(RAMP * most), floats(RAMP * most)):
        found = pixels(file, deep(RAMP * most / 100), depth=depth)
        assert np.abs(found[0].astype(int) - RAMP_8).max() <= 1
        assert np.abs(found[1] - RAMP * 2.55).max() <= 1
    assert pixels(deep(np.full((8, 8), 65535)), depth=depth)[0].min() == 255  # clipped


def test_unit_and_range_can_be_named() -> None:
    assert np.abs(pixels(floats(RAMP * 2), depth="unit")[0] - np.clip(RAMP * 510, 0, 255)).max() < 1
    low, high = pixels(deep(1000 + RAMP * 500), deep(1500 + RAMP * 500), depth="range")
    assert low.min() == 0 and abs(int(low.max()) - 128) <= 1 and high.max() == 255
    assert pixels(deep(np.full((8, 8), 7)), depth="range")[0].max() == 0


@pytest.mark.parametrize(
    ("high", "whole", "white"),
    [
        (0, True, 255), (255, True, 255), (256, True, 4095), (4095, True, 4095),
        (4096, True, 65535), (65535, True, 65535), (65536, True, 65536),
        (0, False, 1), (1, False, 1), (1.5, False, 1.5), (31, False, 31), (32, False, 255),
        (300, False, 300), (600, False, 4095), (5000, False, 5000), (9000, False, 65535),
    ],
)  # fmt: skip
def test_the_automatic_rule(high: float, whole: bool, white: float) -> None:
    depth = depth_of([Extent(0, high, whole)], "auto")
    assert depth.scale(Extent(0, high, whole)).high == white


def test_a_negative_value_anywhere_makes_it_the_range() -> None:
    depth = depth_of([Extent(0, 60000, True), Extent(-5, 7, True)], "auto")
    assert (depth.whole.low, depth.whole.high) == (-5, 60000)


def read(folder: Path, **keys: object):  # type: ignore[no-untyped-def]
    files = PictureFiles.of_paths(tuple(sorted(folder.iterdir())))
    labels = np.zeros(len(files), np.int64)
    config = DataConfig.model_validate({"image_size": 8, **keys})
    return read_pictures(files, labels, config).images


def test_the_rule_and_dark_pictures_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").write_bytes(deep(RAMP * 65535))
    (tmp_path / "b.png").write_bytes(deep(RAMP * 4095))
    with caplog.at_level(logging.INFO, "regl"):
        read(tmp_path)
    assert "2 pictures of deep greyscale: whole numbers are read as 16-bit" in caplog.text
    assert "1 of 2 pictures" in caplog.text and "b.png" in caplog.text
    assert "data.depth" in caplog.text


def test_ordinary_pictures_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    with caplog.at_level(logging.INFO, "regl"):
        read(tmp_path)
    assert caplog.text == ""


def test_larger_copies_obey_the_sets_rule(tmp_path: Path) -> None:
    """A dark picture that is decoded again alone, for a generator, is as dark as before."""
    (tmp_path / "photos").mkdir()
    for name, most in (("a", 300), ("b", 65535)):
        values = np.full((20, 20), most, np.uint16)
        Image.fromarray(values).save(tmp_path / "photos" / f"{name}.png")
    images = read(tmp_path / "photos")
    alone = images.subset([0]).alone()
    assert alone.originals is not None and images.images[:, 0, 0, 0].tolist() == [1, 255]
    large = PictureStore(tmp_path / "store").pictures(alone.originals, 16)[:]
    assert large.unique().tolist() == [1]
    other = read(tmp_path / "photos", depth="12-bit").subset([0]).alone()
    assert other.originals is not None and other.originals.digest != alone.originals.digest
    again = PictureStore(tmp_path / "store").pictures(other.originals, 16)[:]
    assert torch.equal(again, torch.full_like(again, 19))


TWELVE, UNIT = Scale(0.0, 4095.0), Scale(0.0, 1.0)


def test_what_a_set_was_read_by_is_known_of_the_kinds_that_it_has() -> None:
    ordinary = encoded(Image.fromarray(RAMP_8), "PNG")
    for files, used in (
        ([deep(RAMP * 4000)], UsedDepth(TWELVE, None)),
        ([floats(RAMP), ordinary], UsedDepth(None, UNIT)),
        ([floats(RAMP), deep(RAMP * 4000)], UsedDepth(TWELVE, UNIT)),
        ([ordinary], None),
    ):
        assert decoded(*files).used_depth == used
    assert decoded(deep(RAMP * 255), depth="12-bit").used_depth == UsedDepth(TWELVE, None)


def test_a_later_set_is_read_alike_whatever_its_pictures_lead_to() -> None:
    """A dark picture alone is taken for one of 8 bits, and not where the rule is known."""
    dark, used = deep(RAMP * 200), UsedDepth(TWELVE, None)
    alone = decoded(dark).images
    alike = decode_images([("dark", dark)], 8, used=used).images
    beside = decoded(dark, deep(RAMP * 4000)).images[:1]
    assert alike.equal(beside) and not alike.equal(alone)
    # Of floats the first set had none: nothing is known of them.
    again = decode_images([("floats", floats(RAMP))], 8, used=used).images
    assert again.equal(decoded(floats(RAMP)).images)
    both = decode_images([("dark", dark)], 8, used=UsedDepth(TWELVE, UNIT)).images
    assert both.equal(beside)
    negative = decode_images(
        [("low", floats(RAMP - 0.5))], 8, used=UsedDepth(None, Scale(-1.0, 1.0))
    )
    assert negative.images.float().mean() == pytest.approx(127.5, abs=1)


def test_scales_travel_as_text_and_back() -> None:
    for used in (UsedDepth(TWELVE), UsedDepth(None, Scale(-0.1, 1e9)), UsedDepth(TWELVE, UNIT)):
        assert UsedDepth.of_text(used.text) == used
        assert len(used.text) < 100
    assert UsedDepth(TWELVE, UNIT).words == (
        "whole numbers as 12-bit, 0 to 4095; floats as unit, 0 to 1"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            "[]",
            "12-bit",
            "[[1], null]",
            '[["a", 1], null]',
            "7",
            "[0, 0]",
            "[{}, []]",
            '["ab", 1]',
        ),
        *("[[1, 1], null]", "[[2, 1], null]", "[null, [0, NaN]]", "[[NaN, 1], null]"),
        *("[null, [0, Infinity]]", "[[0, 1e999], null]", f"[[0, 1{400 * '0'}], null]"),
    ],
)
def test_what_a_client_tells_is_no_scale_unless_it_reads_pictures(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"must be|Expecting|Extra data"):
        UsedDepth.of_text(wrong)


def test_sets_agree_where_no_kind_has_two_scales() -> None:
    whole, real = UsedDepth(TWELVE), UsedDepth(None, UNIT)
    assert agreed([whole, whole]) == whole
    assert agreed([whole, real]) == UsedDepth(TWELVE, UNIT)
    assert agreed([whole, UsedDepth(Scale(0.0, 65535.0))]) is None
    assert agreed([]) is None


def test_what_is_stored_of_a_set_is_stored_by_its_rule(tmp_path: Path) -> None:
    (tmp_path / "dark.png").write_bytes(deep(RAMP * 200))
    files, labels = PictureFiles.of_paths((tmp_path / "dark.png",)), np.zeros(1, np.int64)
    plain = DataConfig(image_size=8)
    alike = read_alike(plain, UsedDepth(TWELVE))
    assert used_depth(alike) == UsedDepth(TWELVE) and used_depth(plain) is None
    assert read_alike(plain, None) is plain
    store = PictureStore(tmp_path / "store")
    first, second, third, fourth = (
        read_pictures(files, labels, config, store=store) for config in (plain, alike, plain, alike)
    )
    assert first.images.images.equal(third.images.images)
    assert second.images.images.equal(fourth.images.images)
    assert not first.images.images.equal(second.images.images)
    assert (first.depth, fourth.depth) == (UsedDepth(Scale(0.0, 255.0)), UsedDepth(TWELVE))


def test_a_set_that_an_earlier_version_stored_is_decoded_anew_if_it_is_deep(tmp_path: Path) -> None:
    (tmp_path / "dark.png").write_bytes(floats(RAMP))
    files, labels = PictureFiles.of_paths((tmp_path / "dark.png",)), np.zeros(1, np.int64)
    store = PictureStore(tmp_path / "store")
    read_pictures(files, labels, DataConfig(image_size=8), store=store)
    (stored,) = (tmp_path / "store").glob("*.set")
    (facts,) = stored.glob("*.json")
    known = json.loads(facts.read_text())
    del known["floats"]
    facts.write_text(json.dumps(known))
    again = read_pictures(files, labels, DataConfig(image_size=8), store=store)
    assert again.depth == UsedDepth(None, UNIT)
