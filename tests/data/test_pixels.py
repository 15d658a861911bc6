"""A picture's pixels are those that a viewer shows: upright, on white, whatever its mode."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from regl_app.core.errors import DataError
from regl_app.data.decode import decode_images

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(content: bytes | Path, size: int = 16, channels: int | None = None) -> np.ndarray:  # type: ignore[type-arg]
    """Return the picture as ``(C, size, size)``; nothing may be printed of it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        images = decode_images([("x", content)], size, channels).images
    assert not told
    return images[0].numpy()


def with_orientation(content: bytes, turned: int) -> bytes:
    """Return a TIFF header that says so, as cameras write it into EXIF."""
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, turned, 0, 0) + content


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_every_orientation_is_upright_in_every_format_that_has_one(kind: str, turned: int) -> None:
    image = Image.fromarray(COLOURS)
    exif = Image.Exif()
    exif[0x0112] = turned
    options: dict[str, object] = {"WEBP": {"lossless": True}, "TIFF": {}}.get(kind, {})
    content = encoded(image, kind, exif=exif, **options)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(decoded(content), np.asarray(shown.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "iTXt", "many"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_a_png_with_large_notes_is_the_picture_that_it_is(kind: str, late: bool, mode: str) -> None:
    shown = COLOURS if mode == "RGB" else (COLOURS[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(Image.fromarray(shown), exif=exif)
    large, small = zlib.compress(bytes(2**20 + 1)), zlib.compress(bytes(2**20))
    notes = {
        "iCCP": [(b"iCCP", b"a\0\0" + large)],
        "zTXt": [(b"zTXt", b"a\0\0" + small), (b"zTXt", b"b\0\0" + large)],
        "iTXt": [(b"iTXt", b"a\0\1\0en\0a\0" + large), (b"iTXt", b"b\0\0\0\0\0" + b"x" * 2**20)],
        "many": [(b"zTXt", b"%d\0\0" % number + small) for number in range(65)],
    }
    chunks = [
        struct.pack(">I", len(note)) + name + note + struct.pack(">I", zlib.crc32(name + note))
        for name, note in notes[kind]
    ]
    place = len(plain) - 12 if late and kind != "iCCP" else plain.index(b"IHDR") + 21
    content = plain[:place] + b"".join(chunks) + plain[place:]
    with pytest.raises(ValueError, match="MAX_TEXT"), Image.open(io.BytesIO(content)) as refused:
        refused.load()
    assert np.array_equal(decoded(content), decoded(plain))
    with pytest.raises(DataError, match="not a readable image"):
        decoded(content[:-60])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_a_tiff_is_turned_once(compression: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(COLOURS), "TIFF", exif=exif, compression=compression)
    assert np.array_equal(decoded(content), np.rot90(COLOURS, 3).transpose(2, 0, 1))


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1"])
def test_every_mode_is_turned(mode: str, turned: int) -> None:
    content = Image.fromarray(COLOURS).convert("L" if mode == "I;16" else mode)
    exif = Image.Exif()
    exif[0x0112] = turned
    if mode == "I;16":
        content = Image.fromarray(np.asarray(content).astype(np.uint16) * 257)
    upright, lying = (encoded(content, exif=each) for each in (Image.Exif(), exif))
    turns = {1: 0, 3: 2, 6: 3, 8: 1}
    expected = decoded(upright)
    mirrored = {2: 0, 4: 2, 5: 1, 7: 3}
    if turned in mirrored:
        expected = np.rot90(expected[..., ::-1], mirrored[turned], (1, 2))
    else:
        expected = np.rot90(expected, turns[turned], (1, 2))
    assert np.array_equal(decoded(lying), expected)


def test_the_crop_is_cut_from_the_upright_picture() -> None:
    """A stripe above the middle of a lying picture is right of it when a viewer shows it."""
    lying = np.zeros((40, 60, 3), np.uint8)
    lying[:14] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decoded(encoded(Image.fromarray(lying), exif=exif), 20)
    assert (image[:, :, -5:] == 255).all() and (image[:, :, :10] == 0).all()


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0" + with_orientation(b"", 6)[:-9],
        b"Exif\0\0" + with_orientation(b"", 0),
        b"Exif\0\0" + with_orientation(b"", 9),
        b"Exif\0\0" + with_orientation(b"", 6).replace(b"\x03\0\x01", b"\x05\0\x01"),
        b"Exif\0\0" + with_orientation(b"", 6).replace(b"\x03\0\x01", b"\x02\0\x01"),
        bytes(range(256)) * 8,
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_metadata_lose_no_picture(kind: str, exif: bytes) -> None:
    plain = encoded(Image.fromarray(COLOURS), kind)
    damaged = encoded(Image.fromarray(COLOURS), kind, exif=exif)
    assert np.array_equal(decoded(damaged), decoded(plain))


def glyph(alpha: np.ndarray) -> Image.Image:  # type: ignore[type-arg]
    """Return a picture whose hidden colours are black."""
    four = np.zeros((*alpha.shape, 4), np.uint8)
    four[..., 3] = alpha
    return Image.fromarray(four)


HALF = np.zeros((8, 8), np.uint8)
HALF[:, 4:] = 255


def _gray_key() -> bytes:
    return encoded(Image.fromarray(np.where(HALF, 0, 7).astype(np.uint8)), transparency=7)


def _colour_key() -> bytes:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = (1, 2, 3)
    return encoded(Image.fromarray(pixels), transparency=(1, 2, 3))


def _palette_with_one_clear_colour() -> bytes:
    image = Image.fromarray(np.where(HALF, 0, 1).astype(np.uint8))
    image = image.convert("P")
    image.putpalette([0, 0, 0, 200, 10, 10])
    return encoded(image, transparency=1)


def _palette_with_alphas() -> bytes:
    image = Image.fromarray(np.where(HALF, 0, 1).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 200, 10, 10])
    return encoded(image, transparency=b"\xff\x00")


def _png(bits: int, colour: int, rows: list[bytes], **chunks: bytes) -> bytes:
    """Return a PNG of 8 x 8 pixels, written by hand as Pillow writes no such ones."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, colour, 0, 0, 0))]
    parts += [(name.encode(), content) for name, content in chunks.items()]
    parts += [(b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        crc = struct.pack(">I", zlib.crc32(name + data))
        content += struct.pack(">I", len(data)) + name + data + crc
    return content


TRANSPARENT = {
    "RGBA png": encoded(glyph(HALF)),
    "LA png": encoded(glyph(HALF).convert("LA")),
    "webp": encoded(glyph(HALF), "WEBP", lossless=True, exact=True),
    "tiff": encoded(glyph(HALF), "TIFF"),
    "LA tiff": encoded(glyph(HALF).convert("LA"), "TIFF"),
    "gif": encoded(glyph(HALF), "GIF"),
    "P + tRNS, one": _palette_with_one_clear_colour(),
    "P + tRNS, all": _palette_with_alphas(),
    "L + tRNS": _gray_key(),
    "RGB + tRNS": _colour_key(),
    "1 + tRNS": _png(1, 0, [b"\0\xf0"] * 8, tRNS=b"\0\1"),
    "4 bit + tRNS": _png(4, 0, [b"\0\xff\xff\x00\x00"] * 8, tRNS=b"\0\x0f"),
    "16 bit RGB + tRNS": _png(
        16, 2, [b"\0" + b"\x12\x34" * 12 + b"\0" * 24] * 8, tRNS=b"\x12\x34" * 3
    ),
    "16 bit RGBA": _png(16, 6, [b"\0" + b"\0" * 32 + (b"\0" * 6 + b"\xff\xff") * 4] * 8),
    "16 bit gray + alpha": _png(16, 4, [b"\0" + b"\0" * 16 + b"\0\0\xff\xff" * 4] * 8),
    "jpeg 2000": encoded(glyph(HALF), "JPEG2000"),
}


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("kind", TRANSPARENT)
def test_what_is_transparent_is_white(kind: str, channels: int | None) -> None:
    """Left is transparent, with some colour or none below it; right is black."""
    image = decoded(TRANSPARENT[kind], 8, channels)
    assert (image[:, :, :4] == 255).all() and (image[:, :, 4:] == 0).all()
    assert channels is None or len(image) == channels


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_half_transparent_is_half_white(mode: str) -> None:
    image = decoded(encoded(glyph(np.full((8, 8), 128, np.uint8)).convert(mode)), 8)
    assert image.min() == image.max() == 127


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_alpha_is_undone_first(mode: str) -> None:
    from regl_app.data.pixels import shallow_pixels

    straight = Image.new("RGBA", (4, 4), (200, 200, 200, 128))
    image = straight.convert("LA").convert("La") if mode == "La" else straight.convert("RGBa")
    found = shallow_pixels(image, "", mode == "La")
    assert np.abs(found.astype(int) - (200 * 128 + 255 * 127) / 255).max() <= 1


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_opaque_pictures_are_what_plain_conversion_makes_of_them(
    mode: str, channels: int | None
) -> None:
    image = Image.fromarray(COLOURS).convert(mode)
    content = encoded(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    gray = channels == 1 or (channels is None and mode in ("1", "L", "LA"))
    plain = np.asarray(Image.open(io.BytesIO(content)).convert("L" if gray else "RGB"))
    plain = plain[None] if gray else plain.transpose(2, 0, 1)
    assert np.array_equal(decoded(content, 16, channels), plain)


def test_a_bitmap_whose_fourth_byte_is_empty_is_opaque() -> None:
    content = encoded(glyph(np.zeros((8, 8), np.uint8)), "BMP")
    assert Image.open(io.BytesIO(content)).mode in ("RGB", "RGBA")
    assert (decoded(content, 8) == 0).all()
