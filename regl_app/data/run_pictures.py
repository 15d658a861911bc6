"""Which pictures a run began with at a site: its node keeps that, and all messages go by it.

A picture's side, training, validation or test, follows from its place among all. One file more or
less would give most others another side, and what was trained on would be tested on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from regl_app.core.client_folders import client_folder, remove_unused
from regl_app.core.errors import DataError
from regl_app.core.files import storing
from regl_app.core.readable import readable
from regl_app.core.tensor_files import load_tensors, save_tensors

_NAME, _TEXT = "pictures.safetensors", "pictures"

Labelled = tuple[Path, int]


@dataclass(frozen=True)
class RunPictures:
    """The picture files of a site in a run's order.

    ``files`` have path from the site's folder, label, bytes and time of modification;
    ``unreadable`` are the places of those that could not be decoded.
    """

    files: tuple[tuple[str, int, int, int], ...]
    unreadable: tuple[int, ...] = ()

    @classmethod
    def of(cls, root: Path, found: Sequence[Labelled]) -> Self:
        """Return the files ``found`` below ``root`` as they are now.

        Raises:
            OSError: one is gone.
        """
        states = [(path, label, path.stat()) for path, label in found]
        return cls(
            tuple(
                (str(path.relative_to(root)), label, seen.st_size, seen.st_mtime_ns)
                for path, label, seen in states
            )
        )

    def below(self, root: Path, named: str) -> tuple[Labelled, ...]:
        """Return them below ``root``, each with its label.

        Args:
            root: the site's folder.
            named: what errors call it.

        Raises:
            DataError: some have changed or gone since the run began.
        """
        odd = [path for path, _, *state in self.files if _state(root / path) != state]
        if odd:
            raise DataError(
                f"{named}: {len(odd)} of the {len(self.files)} pictures that this run began with "
                f"have changed or gone, the first is {odd[0]} (put them back with their times, or "
                "start a new run)"
            )
        return tuple((root / path, label) for path, label, _, _ in self.files)

    def new(self, root: Path, found: Sequence[Labelled]) -> int:
        """Return how many of the files ``found`` below ``root`` have come since."""
        known = {path for path, *_ in self.files}
        return sum(str(path.relative_to(root)) not in known for path, _ in found)


@dataclass(frozen=True)
class KeptPictures:
    """Where a node keeps the ``RunPictures`` of one client in one run, for a month without use."""

    path: Path

    @classmethod
    def of(cls, state_dir: Path, run: str, client: int) -> Self:
        """Return the place below ``state_dir`` for client number ``client``.

        ``run`` is what the server calls the run, the same where it goes on after a break.
        """
        return cls(client_folder(state_dir, (run,), client) / _NAME)

    def read(self) -> RunPictures | None:
        """Return what is kept, None if nothing is.

        Raises:
            DataError: it is damaged, or may not be read.
        """
        try:
            with readable(str(self.path), DataError):
                held = load_tensors(self.path)
        except FileNotFoundError:
            return None
        with suppress(OSError):  # it is used: see ``write``
            os.utime(self.path)
        if held is None:
            raise DataError(
                f"{self.path} is damaged: it says which pictures this run began with at this node "
                "(restore it from a backup, or start a new run)"
            )
        told = json.loads(bytes(held[_TEXT].tolist()))
        return RunPictures(tuple(map(tuple, told["files"])), tuple(told["unreadable"]))

    def write(self, pictures: RunPictures) -> None:
        """Keep ``pictures``; let go of what no run has asked for in a month.

        Raises:
            StorageError: the disk is full, or the place is not this user's.
        """
        text = json.dumps(vars(pictures)).encode()
        with storing(self.path):  # a picture's name can say whose it is
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = {_TEXT: torch.frombuffer(bytearray(text), dtype=torch.uint8)}
        save_tensors(self.path, held, durable=True)  # without it the run cannot go on
        remove_unused(self.path.parent)


def _state(path: Path) -> list[int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return [seen.st_size, seen.st_mtime_ns]
