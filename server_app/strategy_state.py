"""What Flower's strategies remember from round to round, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy

# Momentum of FedAvgM; moments of FedAdagrad, FedAdam and FedYogi.
_LISTS, _TABLES, _RECORDS = ("momentum_vector",), ("m_t", "v_t"), ("current_arrays",)


def inner_state(strategy: Strategy) -> dict[str, torch.Tensor]:
    """Return the memory of ``strategy``; empty if it has none."""
    state: dict[str, torch.Tensor] = {}
    for name in (*_LISTS, *_TABLES, *_RECORDS):
        value = getattr(strategy, name, None)
        if value is None:
            continue
        items = enumerate(value) if isinstance(value, list) else value.items()
        # Numbered: the strategies go by the order of the arrays, and a file has another one.
        for place, (key, item) in enumerate(items):
            array = item.numpy() if isinstance(item, Array) else np.asarray(item)
            state[f"{name}.{place:06d}.{key}"] = torch.from_numpy(np.array(array))
    return state


def restore_inner_state(strategy: Strategy, state: Mapping[str, torch.Tensor]) -> None:
    """Give ``strategy`` back what :func:`inner_state` returned."""
    for name in (*_LISTS, *_TABLES, *_RECORDS):
        prefix = f"{name}."
        arrays = {
            key.removeprefix(prefix).partition(".")[2]: value.numpy()
            for key, value in sorted(state.items())
            if key.startswith(prefix)
        }
        if not arrays:
            continue
        value: Any = arrays
        if name in _LISTS:
            value = list(arrays.values())
        elif name in _RECORDS:
            value = ArrayRecord({key: Array(array) for key, array in arrays.items()})
        setattr(strategy, name, value)


def go_on_from(strategy: Strategy, arrays: ArrayRecord) -> None:
    """Tell ``strategy`` that the global model is another than it has just returned.

    FedAvgM takes its own last result for what the clients started from; the others are told by the
    next round's requests.
    """
    if isinstance(getattr(strategy, "current_arrays", None), ArrayRecord):
        strategy.current_arrays = arrays  # type: ignore[attr-defined]
