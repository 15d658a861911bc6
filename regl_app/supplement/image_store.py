"""Synthetic images on disk, found again by what made them.

An entry is the beginning of one class's deterministic image sequence: the first n images serve
every smaller quota, and only the missing end is ever generated. Several processes may share a
store: files appear whole, and two writers of the same entry write the same images.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from regl_app.core.disk_cache import GIGABYTE, entries, evict, touch
from regl_app.core.errors import StorageError
from regl_app.core.log import logger
from regl_app.core.tensor_files import load_tensors, save_tensors
from regl_app.core.types import CacheKey

_IMAGES, _ENTRIES = "images", "??/*.safetensors"


@dataclass(frozen=True)
class SupplementStore:
    """A folder of image sequences of at most ``max_bytes``; the least recently used go first."""

    root: Path
    max_bytes: int = 2 * GIGABYTE

    def get(self, key: CacheKey, count: int) -> torch.Tensor | None:
        """Return the first ``min(count, stored)`` images, uint8 ``(n, C, H, W)``, or None.

        A damaged entry is deleted and made anew; one that cannot be read counts as absent.
        """
        path = self._path(key)
        try:
            images = _load(path)
        except OSError:
            return None
        if images is None:
            path.unlink(missing_ok=True)
            return None
        touch(path)  # least recently *used*
        return images[:count].clone()

    def put(self, key: CacheKey, images: torch.Tensor) -> None:
        """Store a sequence's first images, uint8 ``(n, C, H, W)``, replacing a shorter entry.

        Without room on the disk they are not stored, with a warning: they can be made again.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}"
            )
        path = self._path(key)
        if len(images) <= self._length(path):
            return
        try:
            save_tensors(path, {_IMAGES: images}, note=_text(key))
        except StorageError as error:
            logger.warning("images are not stored, so a later run makes them again: %s", error)
            return
        evict(self.root, _ENTRIES, self.max_bytes, keep=path)

    def size(self) -> int:
        """Return the bytes the store occupies."""
        return sum(entry.size for entry in entries(self.root, _ENTRIES))

    def _path(self, key: CacheKey) -> Path:
        name = hashlib.sha256(_text(key).encode()).hexdigest()
        return self.root / name[:2] / f"{name[2:40]}.safetensors"

    @staticmethod
    def _length(path: Path) -> int:
        try:
            images = _load(path)
        except OSError:
            return 0
        return 0 if images is None else len(images)


def _text(key: CacheKey) -> str:
    return json.dumps(dict(key), sort_keys=True)


def _load(path: Path) -> torch.Tensor | None:
    """Return an entry's images, or None if it is damaged."""
    images = (load_tensors(path) or {}).get(_IMAGES)
    return images if images is not None and images.dtype == torch.uint8 else None
