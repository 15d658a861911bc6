"""Flower's strategies by name, set to use every node they are given: sampling is the wrapper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    Strategy,
)

from regl_app.config.sections import ServerConfig

_STRATEGIES: Mapping[str, Callable[..., Strategy]] = MappingProxyType(
    {
        "fedavg": FedAvg,
        # Without momentum (Flower's default) it would be plain FedAvg.
        "fedavgm": partial(FedAvgM, server_momentum=0.9),
        "fedadagrad": FedAdagrad,
        "fedadam": FedAdam,
        "fedyogi": FedYogi,
        "fedmedian": FedMedian,
        "fedtrimmedavg": FedTrimmedAvg,
    }
)


def make_strategy(config: ServerConfig) -> Strategy:
    """Return the Flower strategy that ``server.strategy`` names, otherwise at Flower's defaults."""
    everyone: dict[str, Any] = {
        "fraction_train": 1.0,
        "fraction_evaluate": 1.0,
        "min_train_nodes": 1,
        "min_evaluate_nodes": 1,
        "min_available_nodes": 1,
    }
    return _STRATEGIES[config.strategy](**everyone)
