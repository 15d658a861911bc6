"""Which picture files are read: endings, and the decoders that may see a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import PurePath
from types import MappingProxyType

# Tried with every file, whatever it is called: each knows its own files by their first bytes.
_COMMON = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")

# Not all that Pillow knows. EPS hands PostScript to another program, whatever the file's ending;
# IPTC opens what is in it with any decoder; WMF, BUFR, GRIB, HDF5 and MPEG need helpers.
_FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "PNG": (".png", ".apng"),
        "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        "BMP": (".bmp",),
        "GIF": (".gif",),
        "WEBP": (".webp",),
        "TIFF": (".tif", ".tiff"),
        "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
        "AVIF": (".avif", ".avifs"),
        "HEIF": (".heic", ".heics", ".heif", ".heifs", ".hif"),
        # Some of these take another program's file for their own: tried by the ending alone.
        "DIB": (".dib",),
        "ICO": (".ico",),
        "CUR": (".cur",),
        "ICNS": (".icns",),
        "TGA": (".tga", ".icb", ".vda", ".vst"),
        "PCX": (".pcx",),
        "DCX": (".dcx",),
        "PSD": (".psd",),
        "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
        "SUN": (".ras",),
        "QOI": (".qoi",),
        "DDS": (".dds",),
        "FITS": (".fit", ".fits"),
        "FLI": (".fli", ".flc"),
        "IM": (".im",),
        "MSP": (".msp",),
        "PIXAR": (".pxr",),
        "PCD": (".pcd",),
        "XBM": (".xbm",),
        "XPM": (".xpm",),
        "BLP": (".blp",),
        "FTEX": (".ftc", ".ftu"),
        "GBR": (".gbr",),
    }
)
_BY_ENDING = {ending: name for name, endings in _FORMATS.items() for ending in endings}
_FEATURES = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
_REMEDIES = {
    "HEIF": "pip install pillow-heif reads them",
    "AVIF": "Pillow 11.3 or later reads them",
}


def formats_for(name: str) -> tuple[str, ...]:
    """Return the decoders of Pillow that may see the file ``name``, in the order of trying."""
    own = _BY_ENDING.get(ending_of(name))
    tried = _COMMON if own is None or own in _COMMON else (*_COMMON, own)
    return tuple(each for each in tried if _is_there(each))


@cache
def endings() -> frozenset[str]:
    """Return the endings of files that are read on this machine, in small letters with the dot."""
    return frozenset(ending for ending, name in _BY_ENDING.items() if _is_there(name))


def ending_of(name: str) -> str:
    """Return a file's ending in small letters with its dot, '' if it has none."""
    return PurePath(name).suffix.lower()


def remedy_for(ending: str) -> str:
    """Return what would make files of an ending readable on this machine; '' if nothing would."""
    name = _BY_ENDING.get(ending, "")
    if not name or _is_there(name):
        return ""
    return _REMEDIES.get(name, f"a Pillow built with {name} reads them")


@cache
def _is_there(name: str) -> bool:
    from PIL import Image, features

    Image.init()
    if name == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            return False
        pillow_heif.register_heif_opener()
    if name in _FEATURES and not features.check(_FEATURES[name]):
        return False
    return name in Image.OPEN
