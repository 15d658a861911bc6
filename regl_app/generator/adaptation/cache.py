"""Adapters on disk, found again by what they were tuned from: a rerun never tunes twice."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from regl_app.core.disk_cache import GIGABYTE, evict, touch
from regl_app.core.errors import ProtocolError
from regl_app.core.files import atomic_path, write_json
from regl_app.core.types import CacheKey, Tensors
from regl_app.generator.adaptation.lora import TunedAdapter
from regl_app.generator.adapters import WEIGHTS, adapter_digest, load_adapter, save_adapter

METADATA = "adapter.json"
IN_USE_SECONDS = 3600.0
"""From finding an adapter to merging it no more time passes; merged, its file is not needed."""
_NAME = 40


@dataclass(frozen=True)
class CachedAdapter:
    """An adapter's folder, the digest of its weights and how its tuning went."""

    path: Path
    digest: str
    steps: int
    loss: float | None
    seconds: float
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterCache:
    """A folder of adapters, each with its key and checksum in ``adapter.json``.

    They take at most ``max_bytes``, but what was asked for within the last hour is in use and
    stays; of the others, the least recently used go first.
    """

    root: Path
    max_bytes: int = 2 * GIGABYTE

    def get(self, key: CacheKey) -> CachedAdapter | None:
        """Return the adapter tuned from ``key``; None if absent or damaged."""
        return self._load(self._path(key))

    def find(self, name: str) -> CachedAdapter | None:
        """Return the adapter whose folder is called ``name``; None if absent or damaged."""
        return self._load(self.root / name) if _is_name(name) else None

    def _load(self, path: Path) -> CachedAdapter | None:
        try:
            metadata = json.loads((path / METADATA).read_text())
            digest = adapter_digest(path)
            # The folder's name is the key's digest: what was moved or edited is not believed.
            if metadata["sha256"] != digest or self._path(metadata["key"]) != path:
                return None
            touch(path)
            return CachedAdapter(
                path,
                digest,
                int(metadata["steps"]),
                None if metadata["loss"] is None else float(metadata["loss"]),
                float(metadata["seconds"]),
                {name: float(value) for name, value in metadata.get("facts", {}).items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, key: CacheKey, tuned: TunedAdapter) -> CachedAdapter:
        """Store an adapter under ``key``, replacing a damaged one."""
        return self._store(key, tuned.state, tuned.steps, tuned.loss, tuned.seconds, tuned.facts)

    def keep(self, key: CacheKey, state: Tensors) -> CachedAdapter:
        """Store under ``key`` what was put together here from others' tuning."""
        return self._store(key, state, 0, None, 0.0, {})

    def _store(
        self,
        key: CacheKey,
        state: Tensors,
        steps: int,
        loss: float | None,
        seconds: float,
        facts: Mapping[str, float],
    ) -> CachedAdapter:
        path = self._path(key)
        with atomic_path(path, keep=lambda: self._load(path) is not None) as temporary:
            save_adapter(temporary, state)
            digest = adapter_digest(temporary)
            held = CachedAdapter(path, digest, steps, loss, seconds, facts)
            _describe(temporary, key, held)
        self._evict(path)
        return self._load(path) or held

    def received(self, digest: str) -> CachedAdapter | None:
        """Return the adapter that came from another machine under ``digest``, if it is here."""
        return self._load(self._path({"received": digest}))

    def receive(self, digest: str, content: bytes) -> CachedAdapter:
        """Keep an adapter's file from another machine.

        Raises:
            ProtocolError: its content does not have that digest.
            GeneratorError: it is not an adapter of a denoiser.
        """
        seen = hashlib.sha256(content).hexdigest()
        if seen != digest:
            raise ProtocolError(f"payload-adapter-file must have digest {digest!r}, got {seen!r}")
        key = {"received": digest}
        path = self._path(key)
        with atomic_path(path, keep=lambda: self._load(path) is not None) as temporary:
            temporary.mkdir()
            (temporary / WEIGHTS).write_bytes(content)
            load_adapter(temporary)
            held = CachedAdapter(path, digest, steps=0, loss=None, seconds=0.0)
            _describe(temporary, key, held)
        self._evict(path)
        return self._load(path) or held

    def _evict(self, keep: Path) -> None:
        pattern = "[0-9a-f]" * _NAME
        evict(self.root, pattern, self.max_bytes, keep=keep, spare=IN_USE_SECONDS)

    def _path(self, key: CacheKey) -> Path:
        text = json.dumps(key, sort_keys=True)
        return self.root / hashlib.sha256(text.encode()).hexdigest()[:_NAME]


def _is_name(name: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{_NAME}}}", name) is not None


def _describe(folder: Path, key: CacheKey, held: CachedAdapter) -> None:
    write_json(
        folder / METADATA,
        {
            "sha256": held.digest,
            "steps": held.steps,
            "loss": held.loss,
            "seconds": round(held.seconds, 3),
            "facts": dict(held.facts),
            "key": dict(key),
        },
    )
