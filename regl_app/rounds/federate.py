"""A whole federation as a plain loop: the papers' algorithm without Flower, for one process.

It gives the history of a run by Flower, to the bit (tests/rounds/test_federate.py), and keeps
nothing on disk but the caches: for notebooks, experiments and benchmarks. Whoever wants a run
folder, a report, resuming or other strategies than FedAvg takes ``run_in_process``.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from regl_app.config import RunConfig
from regl_app.config.choices import STRATEGIES
from regl_app.config.paths import cache_dir, with_absolute_paths
from regl_app.core.devices import resolve_device
from regl_app.core.errors import ConfigError, RunError
from regl_app.data.federation import Federation
from regl_app.learning.evaluation.metrics import Metrics
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import make_model
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.averaging import fedavg
from regl_app.rounds.client import Client, client_name
from regl_app.rounds.client_round import evaluate_round, train_round
from regl_app.rounds.client_supplement import own_pool
from regl_app.rounds.exchange import EvaluationResult, RoundResult, RoundTask
from regl_app.rounds.method_state import aggregate_method, shared_weights
from regl_app.rounds.server_round import evaluate_global, personalized_due, sampled_clients
from regl_app.rounds.sites.registry import make_site


@dataclass(frozen=True)
class FederatedRound:
    """What a round brought. Round 0 is the untrained model: nobody has trained yet.

    ``results`` and ``evaluated`` are by client; ``tail`` is on the long tail's own test set.
    """

    number: int
    metrics: Metrics
    tail: Metrics | None
    results: Mapping[int, RoundResult]
    evaluated: Mapping[int, EvaluationResult]


@dataclass(frozen=True)
class Federated:
    """The rounds of a federation, from 0, and its last global model."""

    rounds: tuple[FederatedRound, ...]
    model: Classifier


def federate(
    config: RunConfig,
    clients: int,
    *,
    run: str = "",
    on_round: Callable[[FederatedRound], None] | None = None,
) -> Federated:
    """Train for ``config.rounds`` rounds with ``clients`` clients, one after the other.

    Args:
        config: the run.
        clients: K, >= 1.
        run: what clients keep between rounds is kept under this name, '' for a new one.
        on_round: called after every round, round 0 included.

    Raises:
        ConfigError: this loop cannot do what ``config`` asks for.
        ReglError: a client's or the server's part failed.
    """
    _check(config, clients)
    run = run or uuid.uuid4().hex
    local = with_absolute_paths(config)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _federate(local, clients, run, on_round or (lambda _: None))
    finally:
        torch.set_num_threads(threads)


def _check(config: RunConfig, clients: int) -> None:
    if clients < 1:
        raise ConfigError(f"clients must be >= 1, got {clients}")
    if config.data.local:
        raise ConfigError(
            f"federate needs a data.source that it can partition, got {config.data.source!r}: "
            "images that only their nodes hold need a deployment (regl run --superlink)"
        )
    if not STRATEGIES[config.server.strategy].plain_average:
        raise ConfigError(
            "federate averages by server.strategy='fedavg', got "
            f"{config.server.strategy!r}: Flower's other strategies need run_in_process"
        )


def _federate(
    config: RunConfig, total: int, run: str, on_round: Callable[[FederatedRound], None]
) -> Federated:
    device = resolve_device(config.device)
    federation = Federation.load(config, total)
    state_dir = cache_dir(config)
    clients = [
        Client(
            config,
            partition_id,
            federation.source,
            federation.client(partition_id),
            device,
            state_dir,
            client_name(partition_id),
        )
        for partition_id in range(total)
    ]
    model = make_model(config, federation).to(device)
    site = make_site(
        config,
        federation.source,
        model,
        device=device,
        cache_dir=state_dir,
        pools={client.partition_id: own_pool(client) for client in clients},
    )

    def measured(
        number: int,
        results: Mapping[int, RoundResult],
        evaluated: Mapping[int, EvaluationResult],
    ) -> FederatedRound:
        metrics, tail = evaluate_global(model, federation, device)
        assert metrics is not None  # only a server of sites has no test set
        done = FederatedRound(number, metrics, tail, results, evaluated)
        on_round(done)
        return done

    method = make_method(config)
    state = method.template(model)
    rounds = [measured(0, {}, {})]
    for number in range(1, config.rounds + 1):
        weights = shared_weights(method, model)
        # Every client supplements, trains and probes.
        asked = list(sampled_clients(config, number, total))
        results = {}
        for key in asked:
            task = RoundTask(number, "", site.quotas(key), site.payload(key), run, state)
            results[key] = train_round(clients[key], task, weights)

        # The server plans and averages.
        site.answered(asked, results)
        for key in site.unreadable(results):
            del results[key]
        usable = {key: result for key, result in results.items() if result.num_examples > 0}
        if len(usable) < config.server.min_replies:
            raise RunError(
                f"round {number}: {len(usable)} of {len(asked)} clients have a model to average, "
                f"the run needs server.min-replies={config.server.min_replies}"
            )
        for key, tuned in site.before_average(number, results).items():
            usable[key] = dataclasses.replace(usable[key], weights=tuned)
        averaged = fedavg(usable)
        model.load_state_dict(averaged, strict=False)
        state = aggregate_method(method, state, usable, total)
        site.after_average(number, averaged, results)
        for key, changes in site.notes.items():
            results[key] = dataclasses.replace(results[key], **changes)

        # The new global model, on the clients' own test sets and on the server's.
        evaluated = {}
        if personalized_due(config, number):
            weights = shared_weights(method, model)
            evaluated = {
                client.partition_id: evaluate_round(client, number, weights, run=run)
                for client in clients
            }
        rounds.append(measured(number, results, evaluated))
    return Federated(tuple(rounds), model)
