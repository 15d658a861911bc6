"""Synthetic images on disk, found again by what made them.

An entry is the beginning of one class's deterministic image sequence: the first n images serve
every smaller quota, and only the missing end is ever generated. Several processes may share a
store: files appear whole, and two writers of the same entry write the same images.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from regl_app.tensor_files import load_tensors, save_tensors

Key = Mapping[str, str | int | float | bool | None]
_IMAGES = "images"


@dataclass(frozen=True)
class SupplementStore:
    """A folder of image sequences of at most ``max_bytes``; the least recently used go first."""

    root: Path
    max_bytes: int = 2 * 1024**3

    def get(self, key: Key, count: int) -> torch.Tensor | None:
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
        with contextlib.suppress(FileNotFoundError):  # evicted after it was read
            os.utime(path)  # least recently *used*
        return images[:count].clone()

    def put(self, key: Key, images: torch.Tensor) -> None:
        """Store a sequence's first images, uint8 ``(n, C, H, W)``, replacing a shorter entry."""
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}"
            )
        path = self._path(key)
        if len(images) <= self._length(path):
            return
        save_tensors(path, {_IMAGES: images}, note=_text(key))
        self._evict(keep=path)

    def size(self) -> int:
        """Return the bytes the store occupies."""
        return sum(state.st_size for _, state in self._entries())

    def _path(self, key: Key) -> Path:
        name = hashlib.sha256(_text(key).encode()).hexdigest()
        return self.root / name[:2] / f"{name[2:40]}.safetensors"

    @staticmethod
    def _length(path: Path) -> int:
        try:
            images = _load(path)
        except OSError:
            return 0
        return 0 if images is None else len(images)

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self.root.glob("??/*.safetensors"):
            try:
                found.append((path, path.stat()))
            except FileNotFoundError:
                continue  # evicted by another process
        return found

    def _evict(self, keep: Path) -> None:
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
        excess = sum(state.st_size for _, state in entries) - self.max_bytes
        for path, state in entries:
            if excess <= 0:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                excess -= state.st_size


def _text(key: Key) -> str:
    return json.dumps(dict(key), sort_keys=True)


def _load(path: Path) -> torch.Tensor | None:
    """Return an entry's images, or None if it is damaged."""
    images = (load_tensors(path) or {}).get(_IMAGES)
    return images if images is not None and images.dtype == torch.uint8 else None
