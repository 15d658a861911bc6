"""Flower's strategies by name, set to use every node they are given: sampling is the wrapper's."""

from __future__ import annotations

from typing import Any

from flwr.serverapp.strategy import Strategy

from regl_app.config.choices import STRATEGIES
from regl_app.config.server_section import ServerConfig
from regl_app.core.dotted import resolve


def make_strategy(config: ServerConfig) -> Strategy:
    """Return the Flower strategy that ``server.strategy`` names, at the run's settings."""
    everyone: dict[str, Any] = {
        "fraction_train": 1.0,
        "fraction_evaluate": 1.0,
        "min_train_nodes": 1,
        "min_evaluate_nodes": 1,
        "min_available_nodes": 1,
    }
    choice = STRATEGIES[config.strategy]
    values = config.model_dump(by_alias=True)
    settings = {
        choice.arguments.get(name, name.replace("-", "_")): values[name] for name in choice.settings
    }
    strategy: Strategy = resolve(choice.implementation)(**everyone, **settings)
    return strategy
