"""A model's weights as a record, checked against the run's model on arrival."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord

from regl_app.core.errors import ProtocolError
from regl_app.core.finite import not_finite
from regl_app.core.types import Tensors, Weights
from regl_app.flower.messages.arrays import decode
from regl_app.flower.messages.content import ARRAYS
from regl_app.flower.messages.fields import (
    shown,
)


def weights_to_record(weights: Weights) -> ArrayRecord:
    """Return a model's state as Flower arrays."""
    return ArrayRecord({key: value.detach().cpu() for key, value in weights.items()})


def weights_from_record(
    record: ArrayRecord, template: Tensors, name: str = ARRAYS
) -> dict[str, torch.Tensor]:
    """Return the arrays as tensors of the same names, shapes and types as ``template``.

    ``name`` is the record's.

    Raises:
        ProtocolError: they differ, cannot be decoded, or are not finite.
    """
    if set(record) != set(template):
        odd = sorted(set(record) ^ set(template))
        raise ProtocolError(
            f"{name} must hold the model's {len(template)} arrays; differ: {shown(odd)}"
        )
    weights = {
        key: torch.from_numpy(
            decode(
                f"{name}[{key!r}]",
                record[key],
                str(wanted.dtype).removeprefix("torch."),
                tuple(wanted.shape),
            )
        )
        for key, wanted in template.items()
    }
    check_finite(weights, name)
    return weights


def check_finite(weights: Tensors, name: str = ARRAYS) -> None:
    """Raise :class:`ProtocolError` if a tensor has NaN or infinity."""
    if (key := not_finite(weights)) is not None:
        raise ProtocolError(
            f"{name}[{key!r}] must be finite, got NaN or infinity "
            "(training diverged: lower train.lr)"
        )
