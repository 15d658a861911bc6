"""A whole federation as a plain loop: the papers' algorithm without Flower, for one process.

It gives the history of a run by Flower, to the bit (tests/rounds/test_federate.py), and keeps
nothing on disk but the caches: for notebooks, experiments and benchmarks. Whoever wants a run
folder, a report, resuming or other strategies than FedAvg takes ``run_in_process``.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

import torch

from regl_app.config import RunConfig
from regl_app.config.choices import STRATEGIES
from regl_app.config.paths import cache_dir, with_absolute_paths
from regl_app.core.devices import resolve_device
from regl_app.core.errors import ConfigError, DivergedError, RunError
from regl_app.core.finite import not_finite
from regl_app.core.log import logger
from regl_app.core.torch_defaults import plain_torch
from regl_app.core.types import Floats, Tensors, Weights
from regl_app.data.absent_classes import absent_classes
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.metrics import Metrics
from regl_app.learning.methods.method import Method, detached
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import make_model
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.models.pretrained import check_weights
from regl_app.rounds.averaging import fedavg
from regl_app.rounds.choosing import Choice, pooled_validation
from regl_app.rounds.client import Client, client_name
from regl_app.rounds.client_round import evaluate_round, train_round
from regl_app.rounds.client_state import ClientState
from regl_app.rounds.client_supplement import own_pool
from regl_app.rounds.disclosure import shared_counts
from regl_app.rounds.exchange import (
    EvaluationResult,
    RoundResult,
    RoundTask,
    Validation,
    diverged,
)
from regl_app.rounds.method_state import (
    aggregate_method,
    first_state,
    reported,
    shared_weights,
)
from regl_app.rounds.server_round import evaluate_global, personalized_due, sampled_clients
from regl_app.rounds.shared_adapter import AdapterTask, SharedTuning, odd_part, tune_part
from regl_app.rounds.sites.registry import make_site
from regl_app.rounds.sites.site import Site
from regl_app.rounds.synthetic_steps import teach_first
from regl_app.rounds.without_images import still_without_images, without_images
from regl_app.supplement.distance_features import check_distance

OwnImages = Callable[[Client, int], ImageSet]
"""(client, round number) -> the synthetic images that it trains on in that round."""


@dataclass(frozen=True)
class FederatedRound:
    """What a round brought. Round 0 is the first model: nobody has trained yet.

    ``results`` and ``evaluated`` are by client; ``tail`` is on the long tail's own test set.
    Results of rounds before the last keep no uploaded model.
    ``held`` ``(K, C)`` is what those with a model were taken to hold, where the experts are asked.
    ``validation`` is on what is held out to choose by, if anything is.
    """

    number: int
    metrics: Metrics
    tail: Metrics | None
    results: Mapping[int, RoundResult]
    evaluated: Mapping[int, EvaluationResult]
    held: Floats | None = None
    validation: Validation | None = None


@dataclass(frozen=True)
class Federated:
    """The rounds of a federation, from 0, and its last global model.

    With ``validation.keep=best`` it is that of round ``best``, which is 0 where nothing is held
    out.
    """

    rounds: tuple[FederatedRound, ...]
    model: Classifier
    best: int = 0


@plain_torch()
def federate(
    config: RunConfig,
    clients: int,
    *,
    own_images: OwnImages | None = None,
    on_round: Callable[[FederatedRound], None] | None = None,
) -> Federated:
    """Train for ``config.rounds`` rounds with ``clients`` clients, one after the other.

    It ends before where the validation images say so (``validation.patience``).

    Args:
        config: the run.
        clients: K, >= 1.
        own_images: tells the images to supplement with, instead of those that ``config`` plans:
            for experiments with other sources; nothing is generated for clients or probed then.
        on_round: called after every round, round 0 included; of all rounds but the last, only it
            sees the uploaded models.

    Raises:
        ConfigError: this loop cannot do what ``config`` asks for.
        ReglError: a client's or the server's part failed.
    """
    _check(config, clients)
    local = with_absolute_paths(config)
    check_weights(local.model)
    if config.uses_generator:
        check_distance(local.supplement.distance)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        loop = _Loop.of(local, clients, uuid.uuid4().hex, own_images)
        rounds: list[FederatedRound] = []
        with closing(loop):
            loop.tune_together()
            for number in range(config.rounds + 1):
                if loop.choice.exhausted:
                    break
                if rounds:
                    rounds[-1] = _without_models(rounds[-1])
                rounds.append(loop.round(number))
                if on_round is not None:
                    on_round(rounds[-1])
        if loop.best and config.validation.keep == "best":
            loop.model.load_state_dict(dict(loop.best))
        return Federated(tuple(rounds), loop.model, loop.choice.best)
    finally:
        torch.set_num_threads(threads)


def _without_models(done: FederatedRound) -> FederatedRound:
    """Return ``done`` without its uploads: those of many rounds would fill a device."""
    results = {
        key: dataclasses.replace(result, weights=None, sent={})
        for key, result in done.results.items()
    }
    return dataclasses.replace(done, results=results)


def _check(config: RunConfig, clients: int) -> None:
    if clients < 1:
        raise ConfigError(f"clients must be >= 1, got {clients}")
    if config.data.local:
        raise ConfigError(
            f"federate needs a data.source that it can partition, got {config.data.source!r}: "
            "images that only their nodes hold need a deployment (regl run --superlink)"
        )
    if config.resume:
        raise ConfigError(
            f"federate keeps no run that it could go on with, got resume={config.resume!r}: "
            "run_in_process does (or leave the key out)"
        )
    if not STRATEGIES[config.server.strategy].plain_average:
        raise ConfigError(
            "federate averages by server.strategy='fedavg', got "
            f"{config.server.strategy!r}: Flower's other strategies need run_in_process"
        )


@dataclass
class _Loop:
    """What the server and the clients hold between rounds.

    ``model`` is the global model as it is measured, ``going`` what the next round goes on from,
    where that is another one. ``empty`` are the clients that are known to have no images.
    """

    config: RunConfig
    federation: Federation
    clients: list[Client]
    model: Classifier
    device: torch.device
    site: Site
    method: Method
    state: Tensors
    run: str
    own_images: OwnImages | None = None
    results: dict[int, RoundResult] = field(default_factory=dict)
    going: Weights = field(default_factory=dict)
    best: Weights = field(default_factory=dict)
    choice: Choice = field(init=False)
    empty: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self.choice = Choice(self.config.validation)
        told = {c.partition_id: shared_counts(self.config, c.real_counts) for c in self.clients}
        self.empty = without_images(told)

    @classmethod
    def of(cls, config: RunConfig, total: int, run: str, own_images: OwnImages | None) -> _Loop:
        device, state_dir = resolve_device(config.device), cache_dir(config)
        federation = Federation.load(config, total)
        source = federation.source
        for words in absent_classes(source, config.data):
            logger.warning("%s", words)
        clients = [
            Client(config, key, source, federation.client(key), device, state_dir, client_name(key))
            for key in range(total)
        ]
        model = make_model(config, federation).to(device)
        pools = {client.partition_id: own_pool(client) for client in clients}
        site = make_site(config, source, model, device=device, cache_dir=state_dir, pools=pools)
        if own_images is not None:
            site = Site(site.teacher)
        method = make_method(config)
        state = first_state(config, method, model)
        teach_first(config, model, source, device=device, cache_dir=state_dir)
        return cls(config, federation, clients, model, device, site, method, state, run, own_images)

    def close(self) -> None:
        """Remove what clients kept between rounds: nobody will ask for it again."""
        for client in self.clients:
            ClientState.of(client, self.run).forget()

    def tune_together(self) -> None:
        """Let all clients tune one adapter, where the run has one for all."""
        if not self.config.shares_adapter or self.own_images is not None:
            return
        tuning = SharedTuning()
        for number in range(1, self.config.lora.rounds + 1):
            parts = {}
            for client in self.clients:
                part = tune_part(client, AdapterTask(number, tuning.up))
                if problem := odd_part(part):
                    key = client.partition_id
                    logger.warning("adapter: client %d left out: %s", key, problem)
                else:
                    parts[client.partition_id] = part
            tuning.add(parts)
        self.site.share(tuning)

    def round(self, number: int) -> FederatedRound:
        """Go through a round; number 0 only measures the first model."""
        evaluated: dict[int, EvaluationResult] = {}
        if number > 0:
            self._train(number)
            self._average(number)
            if personalized_due(self.config, number):
                evaluated = self._evaluate(number)
        metrics, tail = evaluate_global(self.model, self.federation, self.device)
        assert metrics is not None  # only a server of sites has no test set
        held = None if self.site.teacher is None else self.site.teacher.held
        validation = self._validate(number, evaluated)
        return FederatedRound(number, metrics, tail, self.results, evaluated, held, validation)

    def _validate(
        self, number: int, evaluated: Mapping[int, EvaluationResult]
    ) -> Validation | None:
        """Choose among the rounds, where images are held out for that."""
        if number == 0 or not self.config.validation.used:
            return None
        found = pooled_validation(evaluated.values())
        if self.choice.add(number, found):
            self.best = detached(self.model.state_dict())
        return found

    def _weights(self) -> Weights:
        return shared_weights(self.config, self.method, self.model)

    def _start(self) -> Weights:
        return self.going or self._weights()

    def _train(self, number: int) -> None:
        """Let every client supplement, train and probe."""
        weights, self.results = self._start(), {}
        asked = list(sampled_clients(self.config, number, len(self.clients)))
        for key in asked:
            client, site = self.clients[key], self.site
            task = RoundTask(
                number,
                "",
                site.quotas(key, number),
                site.payload(key, number),
                self.run,
                self.state,
                site.adapter(key),
            )
            images = None if self.own_images is None else self.own_images(client, number)
            try:
                result = train_round(client, task, weights, images=images)
                why = diverged(result)
                problem = why and f"{why} (lower train.lr)"
            except DivergedError as error:
                problem = str(error)
            if problem:
                logger.warning("round %d: client %d left out: %s", number, key, problem)
            else:
                self.results[key] = result
        self.site.answered(asked, self.results)
        for key in self.site.unreadable(self.results):
            del self.results[key]

    def _average(self, number: int) -> None:
        """Make the new global model, and plan the next round."""
        usable = {key: each for key, each in self.results.items() if each.num_examples > 0}
        if len(usable) < self.config.server.min_replies:
            raise RunError(
                f"round {number}: {len(usable)} clients have a model to average, the run needs "
                f"server.min-replies={self.config.server.min_replies}"
            )
        for key, tuned in self.site.before_average(number, self.results).items():
            usable[key] = dataclasses.replace(usable[key], weights=tuned)
        averaged = fedavg(usable)
        if (name := not_finite(averaged)) is not None:
            raise RunError(f"round {number}: the averaged model is not finite in {name!r}")
        start = self._start()
        weights = self.site.teach(number, averaged, self.results, start)
        measured = reported(self.config, self.method, number, start, weights, usable)
        self.model.load_state_dict(dict(measured), strict=False)
        self.going = weights if self.method.reports else {}
        self.empty = still_without_images(self.empty, self.results)
        able = len(self.clients) - len(self.empty)
        self.state = aggregate_method(self.config, self.method, self.state, usable, able)
        self.site.after_average(number, weights, self.results)
        for key, changes in self.site.notes.items():
            self.results[key] = dataclasses.replace(self.results[key], **changes)
        if self.method.reports:  # statistics are megabytes a client, and have been used
            self.results = {k: dataclasses.replace(r, sent={}) for k, r in self.results.items()}

    def _evaluate(self, number: int) -> dict[int, EvaluationResult]:
        """Measure the new global model on the clients' own test sets."""
        weights = self._weights()
        return {
            client.partition_id: evaluate_round(client, number, weights, run=self.run)
            for client in self.clients
        }
