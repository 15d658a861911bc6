"""The server's half of a method: which part of the model travels, and the state beside it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from regl_app.config import RunConfig
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Tensors, Weights
from regl_app.learning.methods.method import Method, detached
from regl_app.rounds.exchange import RoundResult


def shared_weights(method: Method, model: nn.Module) -> Weights:
    """Return copies of the tensors of ``model`` that are sent and averaged, by name."""
    state = model.state_dict()
    return detached({name: state[name] for name in method.shared(list(state))})


def aggregate_method(
    method: Method, state: Tensors, results: Mapping[int, RoundResult], num_clients: int
) -> Tensors:
    """Return the method's next state at the server, from the results that have a model.

    Args:
        method: the run's.
        state: its state so far.
        results: by partition.
        num_clients: how many can train, those that took no part in this round included.
    """
    trained = _trained(results)
    return method.aggregate(
        state,
        _sent(results),
        {key: float(result.num_examples) for key, result in trained.items()},
        num_clients,
    )


def reported(
    config: RunConfig,
    method: Method,
    number: int,
    start: Weights,
    average: Weights,
    results: Mapping[int, RoundResult],
) -> Weights:
    """Return the model that round ``number`` is measured by.

    Args:
        config: the run.
        method: its own.
        number: the round.
        start: the global model that the round began with.
        average: the one that the next round begins with.
        results: by partition.
    """
    seed = derive_seed(config.seed, "server", "report", number)
    return method.report(start, average, _sent(results), seed)


def _trained(results: Mapping[int, RoundResult]) -> Mapping[int, RoundResult]:
    return {key: result for key, result in sorted(results.items()) if result.num_examples > 0}


def _sent(results: Mapping[int, RoundResult]) -> Mapping[int, Tensors]:
    return {key: result.sent for key, result in _trained(results).items()}
