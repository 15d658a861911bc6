"""One client's images."""

from __future__ import annotations

from dataclasses import dataclass

from regl_app.data.depth import UsedDepth
from regl_app.data.images import ImageSet


@dataclass(frozen=True)
class ClientData:
    """One client's images; either set may be empty."""

    partition_id: int
    train: ImageSet
    test: ImageSet
    """Drawn like the client's own data: the personalized test set."""
    unreadable: int = 0
    """Files of its own folder that could not be decoded and were left out."""
    left_out: str = ""
    """What of its own folder is not read, in words, if pictures may be missed."""
    validation: ImageSet | None = None
    """Training images that are held out to choose by; None where a run holds none out."""
    depth: UsedDepth | None = None
    """By which scales deep greyscale of its own folder was read; None without any."""
