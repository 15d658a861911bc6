"""What Pillow reads by default is read, and no decoder that runs what it reads."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from regl_app.core.errors import DataError
from regl_app.data import picture_formats
from regl_app.data.decode import _read, _UnreadableError, decode_images
from regl_app.data.picture_formats import ending_of, endings, formats_for, remedy_for

# What Pillow has an ending for and we do not read, each for its reason.
LEFT = {
    "EPS": "hands PostScript to another program",
    "PDF": "Pillow only writes it",
    "PALM": "Pillow only writes it",
    "WMF": "drawn by Windows alone",
    "BUFR": "needs a helper",
    "GRIB": "needs a helper",
    "HDF5": "needs a helper",
    "MPEG": "is known, not decoded",
    "IPTC": "opens what is in it by any decoder",
}


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """Forget what this machine has."""
    for known in (picture_formats.endings, picture_formats._is_there):
        known.cache_clear()
    yield
    for known in (picture_formats.endings, picture_formats._is_there):
        known.cache_clear()


def test_every_ending_of_pillow_is_read_or_left_for_a_reason() -> None:
    Image.init()
    heif = {ending for ending in endings() if remedy_for(ending) or ending.startswith(".h")}
    known = {ending for ending, name in Image.registered_extensions().items() if name not in LEFT}
    assert known - set(endings()) - {".mpo"} == set()
    extra = {".gbr"}  # Pillow's decoder knows its files by their first bytes only
    assert set(endings()) - known - heif - extra == {".mpo"} - known


@pytest.mark.parametrize(
    ("ending", "kind"),
    sorted(
        (ending, kind)
        for ending, kind in Image.registered_extensions().items()
        if kind in Image.SAVE and kind not in LEFT and kind not in ("MPO",)
    ),
)
def test_what_pillow_writes_under_an_ending_is_read(tmp_path: Path, ending: str, kind: str) -> None:
    size = 16 if kind not in ("GIF", "ICO", "ICNS", "AVIF") else 32
    image = Image.fromarray(np.full((size, size, 3), 200, np.uint8))
    modes = {"MSP": "1", "XBM": "1", "BLP": "P", "GIF": "P", "PALM": "P", ".pfm": "F", ".pbm": "1"}
    mode = modes.get(ending, modes.get(kind, "L" if ending == ".pgm" else "RGB"))
    image = image.convert(mode, dither=Image.Dither.NONE)
    path = tmp_path / f"x{ending.upper()}"
    image.save(path, kind)
    found = decode_images([(str(path), path)], size).images
    wanted = 255 if image.mode == "1" else 200
    assert found.shape[-2:] == (size, size)
    assert abs(int(found.float().mean()) - wanted) <= 6
    assert ending in endings()


@pytest.mark.parametrize("name", ["x.jpg", "x.tga", "row 3", "x.eps", "x"])
def test_postscript_is_handed_to_nobody(name: str) -> None:
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    assert not set(formats_for(name)) & set(LEFT)
    with pytest.raises(DataError, match="cannot identify image file"):
        decode_images([(name, text)], 8)


def test_a_file_is_known_by_its_bytes_whatever_its_ending() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 9), (9, 9, 9)).save(stream, "PNG")
    for name in ("x.jpg", "x.tga", "x.psd", "no ending"):
        assert int(decode_images([(name, stream.getvalue())], 9).images.max()) == 9


def test_without_its_package_heic_is_not_read_and_the_remedy_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert ".heic" not in endings() and "pillow-heif" in remedy_for(".heic")
    assert "HEIF" not in formats_for("x.heic") and remedy_for(".jpg") == remedy_for(".txt") == ""


def test_with_its_package_heic_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another module takes its place: it makes Pillow read files that begin with its mark."""
    from PIL import ImageFile

    class Pretended(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._mode, self._size = "L", (8, 8)
            self.tile = [ImageFile._Tile("raw", (0, 0, 8, 8), 12, "L")]

    def register() -> None:
        Image.register_open("HEIF", Pretended, lambda prefix: prefix[4:12] == b"ftypheic")

    module = ModuleType("pillow_heif")
    module.register_heif_opener = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    assert {".heic", ".heif", ".hif"} <= endings() and remedy_for(".heic") == ""
    content = b"\0\0\0\x18ftypheic" + bytes([77]) * 64
    assert decode_images([("IMG_1.HEIC", content)], 8).images.unique().tolist() == [77]


def test_avif_without_its_decoder_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import features

    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    assert ".avif" not in endings() and "Pillow 11.3" in remedy_for(".avif")


def test_endings_are_compared_in_small_letters() -> None:
    assert ending_of("A.B.JFIF") == ".jfif" and ending_of("x") == ""


def test_a_damaged_picture_of_a_table_is_named_by_its_row_alone() -> None:
    """Neither by its bytes nor by where they lie in memory."""
    said = r"^row 3: not a readable image \(cannot identify image file\)$"
    with pytest.raises(_UnreadableError, match=said):
        _read("row 3", b"x" * 100, None)
