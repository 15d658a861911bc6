"""Notes in PNG files, texts and colour profiles, that are larger than Pillow unpacks."""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AROUND = 12  # bytes of a chunk beside its content: length, kind, checksum


def without_large_notes(content: bytes) -> bytes | None:
    """Return a PNG file without the notes that Pillow refuses the whole picture for.

    Pillow bounds them against files made to fill memory; here they are never unpacked further than
    that. What is left, as an orientation, is as it was. None: it is no PNG, or has no such notes.
    """
    from PIL import PngImagePlugin

    if not content.startswith(_SIGNATURE):
        return None
    kept = [_SIGNATURE]
    place, memory, dropped = len(_SIGNATURE), 0, False
    while place + _AROUND <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        chunk = content[place : place + _AROUND + length]
        size = _unpacked(kind, chunk[8:-4], PngImagePlugin.MAX_TEXT_CHUNK)
        if size is None or (size and memory + size > PngImagePlugin.MAX_TEXT_MEMORY):
            dropped = True
        else:
            kept.append(chunk)
            memory += size
        place += len(chunk)
    kept.append(content[place:])
    return b"".join(kept) if dropped else None


def _unpacked(kind: bytes, content: bytes, most: int) -> int | None:
    """Return how much memory a chunk's note takes, 0 if it is none; None: more than ``most``."""
    _, _, rest = content.partition(b"\0")
    if kind == b"tEXt":
        return len(rest)
    if kind == b"iTXt":
        text = rest[2:].split(b"\0", 2)[-1]  # after its language and its translated name
        if rest[:1] == b"\0":
            return len(text)
    elif kind in (b"iCCP", b"zTXt"):
        text = rest[1:]
    else:
        return 0
    unpacking = zlib.decompressobj()
    try:
        size = len(unpacking.decompress(text, most))
    except zlib.error:  # which Pillow passes over
        return 0
    return None if unpacking.unconsumed_tail else size
