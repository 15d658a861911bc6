"""checkpoints/: the last rounds' global model and what else the server needs to go on from there.

``round-NNNN.safetensors`` holds both, under ``model.`` and ``state.``, with a checksum. A run that
chooses by validation images has the best round's model beside them, ``best-NNNN.safetensors``: that
of each checkpoint, as either may be what is gone on from.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.core.tensor_files import load_tensors, load_weights, save_tensors, save_weights
from regl_app.core.types import Tensors

KEPT_CHECKPOINTS = 2
_MODEL, _STATE = "model.", "state."


@dataclass(frozen=True)
class Checkpoint:
    """The global model after ``round``, and what else the server needs to go on from there."""

    round: int
    weights: Tensors
    state: Tensors


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write ``checkpoint`` as one file of ``folder`` and return it; only the last two are kept."""
    path = folder / f"round-{checkpoint.round:04d}.safetensors"
    tensors = {_MODEL + name: value for name, value in checkpoint.weights.items()}
    tensors |= {_STATE + name: value for name, value in checkpoint.state.items()}
    # Durable: the ones before go at once.
    save_tensors(path, tensors, note=f"round {checkpoint.round}", durable=True)
    for _, old in _found(folder)[:-KEPT_CHECKPOINTS]:
        old.unlink(missing_ok=True)
    return path


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint in ``folder`` that is whole; None if there is none at all.

    Raises:
        RunError: all that are there are damaged.
    """
    found = _found(folder)
    for number, path in reversed(found):
        if (whole := _read(number, path)) is not None:
            return whole
        logger.warning("%s: damaged (its checksum is wrong), the one before is taken", path)
    if found:
        raise RunError(
            f"{folder}: {len(found)} checkpoints, all damaged: the run cannot go on "
            "(restore one of them from a backup, or start a new run)"
        )
    return None


def _read(number: int, path: Path) -> Checkpoint | None:
    """Return the checkpoint at ``path``, None if it is damaged."""
    tensors = load_tensors(path)
    if tensors is None:
        return None
    weights, state = (
        {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
        for part in (_MODEL, _STATE)
    )
    return Checkpoint(number, weights, state)


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is any checkpoint in ``folder``, whole or not."""
    return bool(_found(folder))


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Return (round, path) of the checkpoints, oldest first."""
    return sorted(
        (int(match[1]), path)
        for path in folder.glob("round-*.safetensors")
        if (match := re.fullmatch(r"round-(\d+)\.safetensors", path.name))
    )


def write_best(folder: Path, number: int, weights: Tensors) -> Path:
    """Write the global model of round ``number``, the best so far, to a file of its own.

    What was the best before stays until ``leave_best`` is called: if the round is interrupted
    before it is complete, the run goes on from there.
    """
    path = _best(folder, number)
    save_weights(path, weights)
    return path


def leave_best(folder: Path, needed: Mapping[int, Collection[int]]) -> None:
    """Remove the models of rounds that were the best, but what a kept checkpoint goes on with.

    Args:
        folder: that of the checkpoints.
        needed: by round, whose models are needed to go on from it.
    """
    kept = {_best(folder, one) for number, _ in _found(folder) for one in needed.get(number, ())}
    for path in folder.glob("best-*.safetensors"):
        if path not in kept:
            path.unlink(missing_ok=True)


def read_best(folder: Path, number: int) -> Tensors:
    """Return the global model of round ``number``, which was the best.

    The round's checkpoint holds it too: what is gone or damaged is written again from there.

    Raises:
        RunError: neither is whole.
    """
    path = _best(folder, number)
    try:
        return read_model(path)
    except RunError as error:
        found = dict(_found(folder)).get(number)
        whole = None if found is None else _read(number, found)
        if whole is None:
            raise
        logger.warning("%s; the one in the round's checkpoint is taken", error)
        write_best(folder, number, whole.weights)
        return whole.weights


def _best(folder: Path, number: int) -> Path:
    return folder / f"best-{number:04d}.safetensors"


def read_model(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the model file at ``path``.

    Raises:
        RunError: it is not there, or damaged.
    """
    try:
        weights = load_weights(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be read as a model: {error}") from error
    if weights is None:
        raise RunError(f"{path}: is damaged (its checksum is wrong): restore it from a backup")
    return weights
