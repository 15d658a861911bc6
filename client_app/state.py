"""What a client keeps between rounds: its last local model, its adapter, its own plan.

On disk, not in Flower's ``context.state``: that lives in a SuperNode's memory only, and loses
large models silently.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from client_app.node import Node
from regl_app.data.images import Counts
from regl_app.protocol import Weights
from regl_app.supplement.discrepancy import Floats
from regl_app.tensor_files import load_tensors, save_tensors
from regl_app.workdir import cache_dir

_ROUND, _PREFERRED, _MODEL = "round", "preferred", "model."
_TUNED, _HELD, _DISCREPANCY = "tuned", "held", "discrepancy"
_KEPT_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class Memory:
    """What round ``round`` left, 0 if nothing.

    ``weights`` are the local model's, empty if models are not compared; ``preferred`` is the
    preference-tuned adapter's name, '' if none, ``tuned`` the rounds that tuned it; ``held`` and
    ``discrepancy`` (C,) are there where the client plans by itself.
    """

    round: int = 0
    weights: Weights = field(default_factory=dict)
    preferred: str = ""
    tuned: int = 0
    held: Counts | None = None
    discrepancy: Floats | None = None


@dataclass(frozen=True)
class ClientState:
    """One client's file of one run, below the cache.

    The last round removes it. What a run left that ended otherwise goes after a month, when
    another one writes.
    """

    path: Path

    @classmethod
    def of(cls, node: Node, run: str) -> ClientState:
        """Return the state of ``node`` in the run that the server calls ``run``."""
        identity = [run, node.envelope.code_hash, node.envelope.config_digest]
        folder = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
        name = f"client-{node.partition_id:02d}.safetensors"
        return cls(cache_dir(node.config) / "state" / folder / name)

    def before(self, round_number: int, template: Weights) -> Memory:
        """Return what an earlier round than ``round_number`` left; empty if that is nothing.

        A damaged file counts as absent, as do a later round's (a run that was begun anew) and
        another model's than ``template``.
        """
        try:
            held = load_tensors(self.path) or {}
        except OSError:
            return Memory()
        number = int(held[_ROUND]) if _ROUND in held else round_number
        weights = {k.removeprefix(_MODEL): v for k, v in held.items() if k.startswith(_MODEL)}
        shapes = {name: value.shape for name, value in weights.items()}
        fits = not shapes or shapes == {k: v.shape for k, v in template.items()}
        if number >= round_number or not fits:
            return Memory()
        return Memory(
            number,
            weights,
            bytes(held[_PREFERRED].tolist()).decode(),
            int(held[_TUNED]),
            held[_HELD].numpy() if _HELD in held else None,
            held[_DISCREPANCY].numpy() if _DISCREPANCY in held else None,
        )

    def save(self, memory: Memory) -> None:
        """Replace what is kept."""
        preferred = torch.tensor(list(memory.preferred.encode()), dtype=torch.uint8)
        tensors = {
            _ROUND: torch.tensor(memory.round),
            _PREFERRED: preferred,
            _TUNED: torch.tensor(memory.tuned),
        }
        for name, values in ((_HELD, memory.held), (_DISCREPANCY, memory.discrepancy)):
            if values is not None:
                tensors[name] = torch.from_numpy(values)
        tensors |= {_MODEL + name: value for name, value in memory.weights.items()}
        save_tensors(self.path, tensors)
        if memory.round == 1:
            self._prune()

    def forget(self) -> None:
        """Remove the file, and the run's folder after its last client."""
        _remove(self.path)

    def _prune(self) -> None:
        """Remove what other runs, aborted ones say, left a month ago."""
        oldest = time.time() - _KEPT_SECONDS
        for path in self.path.parent.parent.glob("*/*.safetensors"):
            try:
                if path.stat().st_mtime < oldest:
                    _remove(path)
            except FileNotFoundError:
                continue


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:  # absent, or other clients' files are in it
        return
