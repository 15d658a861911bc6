"""The server's half of a method: which part of the model travels, and the state beside it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from regl_app.config import RunConfig
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Tensors, Weights
from regl_app.learning.methods.checks import (
    checked_form,
    checked_names,
    checked_report,
    checked_state,
)
from regl_app.learning.methods.method import Method, detached
from regl_app.rounds.exchange import RoundResult


def shared_weights(config: RunConfig, method: Method, model: nn.Module) -> Weights:
    """Return copies of the tensors of ``model`` that are sent and averaged, by name.

    Raises:
        RunError: the method of the run ``config`` shares what the model does not have.
    """
    state = model.state_dict()
    names = checked_names(method.shared(list(state)), list(state), config.objective)
    return detached({name: state[name] for name in names})


def first_state(config: RunConfig, method: Method, model: nn.Module) -> Tensors:
    """Return the method's first state at the server, which has the form of every later one.

    Raises:
        RunError: it is no table of tensors.
    """
    return detached(checked_form(method.template(model), config.objective, "template"))


def most_sent(config: RunConfig, method: Method, model: nn.Module) -> Tensors:
    """Return the bound of what the method's clients may send, of which only the form counts.

    Raises:
        RunError: it is no table of tensors.
    """
    return checked_form(method.sends(model), config.objective, "sends")


def aggregate_method(
    config: RunConfig,
    method: Method,
    state: Tensors,
    results: Mapping[int, RoundResult],
    num_clients: int,
) -> Tensors:
    """Return the method's next state at the server, from the results that have a model.

    Args:
        config: the run.
        method: its own.
        state: its state so far.
        results: by partition.
        num_clients: how many can train, those that took no part in this round included.

    Raises:
        RunError: the method made none of the form of ``state``, or one that is not finite.
    """
    weights = {key: float(result.num_examples) for key, result in _trained(results).items()}
    found = method.aggregate(state, _sent(results), weights, num_clients)
    return checked_state(found, state, config.objective)


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

    Raises:
        RunError: the method reports none of the form of ``average``, or one that is not finite.
    """
    if not method.reports:
        return average
    seed = derive_seed(config.seed, "server", "report", number)
    found = method.report(start, average, _sent(results), seed)
    return checked_report(found, average, config.objective)


def _trained(results: Mapping[int, RoundResult]) -> Mapping[int, RoundResult]:
    return {key: result for key, result in sorted(results.items()) if result.num_examples > 0}


def _sent(results: Mapping[int, RoundResult]) -> Mapping[int, Tensors]:
    return {key: result.sent for key, result in _trained(results).items()}
