"""What a client keeps between rounds: its last local models, its adapter, its own plan.

On disk, not in Flower's ``context.state``: that lives in a SuperNode's memory only, and loses
large models silently.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from regl_app.core.client_folders import KEPT_SECONDS, client_folder, remove, remove_unused
from regl_app.core.log import is_deployed
from regl_app.core.tensor_files import load_tensors, save_tensors
from regl_app.core.types import Counts, Floats, Tensors, Weights
from regl_app.rounds.client import Client

_ROUND, _PREFERRED, _MODEL, _METHOD = "round", "preferred", "model.", "method."
_TUNED, _HELD, _DISCREPANCY = "tuned", "held", "discrepancy"
_FINISHED_SECONDS = 24 * 3600
# One more than the server's checkpoints: the older of these may be what is gone on from.
KEPT_ROUNDS = 3


@dataclass(frozen=True)
class Memory:
    """What round ``round`` left, 0 if nothing.

    ``weights`` are the local model's, empty if models are not compared; ``preferred`` is the
    preference-tuned adapter's name, '' if none, ``tuned`` the rounds that tuned it; ``held`` and
    ``discrepancy`` (C,) are there where the client plans by itself; ``kept`` is what the method
    keeps.
    """

    round: int = 0
    weights: Weights = field(default_factory=dict)
    preferred: str = ""
    tuned: int = 0
    held: Counts | None = None
    discrepancy: Floats | None = None
    kept: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class ClientState:
    """One client's files of one run, below the cache: one for each of the last rounds.

    A server that went down goes on from its last complete round, so a client may be asked for a
    round again, the last one too. What a run left goes after a month, when a new run writes; in a
    simulation, where many clients' files lie on one disk, a day after the client's last round.
    """

    folder: Path

    @classmethod
    def of(cls, client: Client, run: str) -> ClientState:
        """Return the state of ``client`` in the run that the server calls ``run``."""
        return cls.at(client.state_dir, run, client.identity, client.partition_id)

    @classmethod
    def at(cls, state_dir: Path, run: str, identity: tuple[str, str], client: int) -> ClientState:
        """Return likewise the state of client number ``client`` below ``state_dir``."""
        return cls(client_folder(state_dir, (run, *identity), client))

    def before(self, round_number: int, template: Weights) -> Memory:
        """Return what the last round before ``round_number`` left; empty if that is nothing.

        A damaged file counts as absent, so that the one before it is taken, as does one of another
        model than ``template``.
        """
        for number, path in reversed(self._files()):
            if number < round_number and (memory := _read(path, number, template)):
                return memory
        return Memory()

    def save(self, memory: Memory) -> None:
        """Keep what a round left, beside what the ones before it did."""
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
        tensors |= {_METHOD + name: value for name, value in memory.kept.items()}
        first = not self._files()
        # What a method keeps is nowhere else: of a model, a client's own part. A simulation, which
        # would wait for each of its clients, is begun again.
        save_tensors(self._path(memory.round), tensors, durable=bool(memory.kept) and is_deployed())
        files = self._files()
        for number, path in files:
            # Later ones are of rounds that are being repeated.
            if number > memory.round or (number, path) not in files[-KEPT_ROUNDS:]:
                path.unlink(missing_ok=True)
        if first or memory.round == 1:  # its first here, or begun anew
            remove_unused(self.folder)

    def finish(self) -> None:
        """Let go of what is kept, in a simulation a day from now: the last round is trained.

        A site is not told that the server completed it: one that went down may ask again.
        """
        if is_deployed():
            return
        almost = time.time() - KEPT_SECONDS + _FINISHED_SECONDS
        for _, path in self._files():
            os.utime(path, (almost, almost))

    def forget(self) -> None:
        """Remove all that is kept, now."""
        for _, path in self._files():
            remove(path)

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number:04d}.safetensors"

    def _files(self) -> list[tuple[int, Path]]:
        return sorted(
            (int(path.stem.removeprefix("round-")), path)
            for path in self.folder.glob("round-*.safetensors")
        )


def _read(path: Path, number: int, template: Weights) -> Memory | None:
    """Return what round ``number`` wrote to ``path``; None if it is damaged or of another model."""
    try:
        held = load_tensors(path) or {}
    except OSError:
        return None
    weights = {k.removeprefix(_MODEL): v for k, v in held.items() if k.startswith(_MODEL)}
    shapes = {name: value.shape for name, value in weights.items()}
    fits = not shapes or shapes == {k: v.shape for k, v in template.items()}
    if held.get(_ROUND) != number or not fits:
        return None
    return Memory(
        number,
        weights,
        bytes(held[_PREFERRED].tolist()).decode(),
        int(held[_TUNED]),
        held[_HELD].numpy() if _HELD in held else None,
        held[_DISCREPANCY].numpy() if _DISCREPANCY in held else None,
        {k.removeprefix(_METHOD): v for k, v in held.items() if k.startswith(_METHOD)},
    )
