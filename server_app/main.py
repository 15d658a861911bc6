"""The server's part: send the model out, average what comes back, measure, plan, keep."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from regl_app.config import RunConfig
from regl_app.config.paths import cache_dir, with_absolute_paths
from regl_app.core.activity import activity, phase
from regl_app.core.devices import resolve_device
from regl_app.core.errors import GeneratorError
from regl_app.core.formats import format_seconds
from regl_app.core.log import RUN_FOLDER_LINE, SERVER, setup_logging
from regl_app.data.federation import Federation
from regl_app.data.sources.registry import load_source
from regl_app.flower.code_hash import own_code_hash, refuse_uncovered
from regl_app.flower.messages.handshake import Handshake, config_digest
from regl_app.flower.messages.weights import weights_from_record, weights_to_record
from regl_app.flower.run_state import RUN_FOLDER_STATE
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.compatibility import check_concepts, check_public_part
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import model_of
from regl_app.rounds.method_state import shared_weights
from regl_app.rounds.server_round import evaluate_global, personalized_due
from regl_app.rounds.sites.registry import make_site
from regl_app.runs.folder import Checkpoint, RunFolder
from regl_app.runs.records import FederationFacts, RoundRecord
from regl_app.runs.round_line import round_line, scores
from regl_app.supplement.privacy import epsilon
from server_app.artifacts import make_report, write_features
from server_app.exchange import exchange
from server_app.flower_strategies import make_strategy
from server_app.handshake import discover_clients, require_nodes
from server_app.pooled_evaluation import pooled_metrics
from server_app.prometheus import RunMetrics
from server_app.resume import last_complete_round, open_run, record_of
from server_app.round_record import Round, round_record
from server_app.run_end import record_run_end
from server_app.stopwatch import Stopwatch
from server_app.supplement_strategy import SupplementStrategy
from server_app.tensorboard import Tracker

app = ServerApp()

_logger = logging.getLogger("regl")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the configured federation; raises, so that the run fails, if nothing was learned."""
    started = time.monotonic()
    config = RunConfig.from_flat(context.run_config)
    setup_logging(config.log_format)
    refuse_uncovered(config)
    torch.set_num_threads(config.threads)
    local = with_absolute_paths(config)
    folder = open_run(config, Path(local.out_dir), Path(local.resume) if local.resume else None)
    context.state[RUN_FOLDER_STATE] = ConfigRecord({"path": str(folder.path)})
    with activity(SERVER, "start"):
        _logger.info("%s%s", RUN_FOLDER_LINE, folder.path)
        metrics = RunMetrics(folder, config, lambda: len(list(grid.get_node_ids())))
        with metrics, record_run_end(folder, metrics.end):
            last = federate(grid, config, folder, metrics)
        phase("report")
        if config.report:
            make_report(folder)
        took = format_seconds(time.monotonic() - started)
        _logger.info("finished in %s: %s", took, scores(last))


def federate(grid: Grid, config: RunConfig, folder: RunFolder, metrics: RunMetrics) -> RoundRecord:
    """Train for ``config.rounds`` rounds and return the last one's record.

    Raises:
        ReglError: too few clients can be used, or a round brought nothing.
    """
    handshake = Handshake(own_code_hash(), config_digest(config))
    local = with_absolute_paths(config)
    device = resolve_device(config.device)
    whole = load_source(local.data)
    num_classes = whole.num_classes
    if config.uses_generator:
        check_concepts(config.generator.path, whole.concepts)
        _check_public_part(local)
    phase("hello")
    clients = discover_clients(grid, config.server, handshake, num_classes)
    federation = Federation.load(local, clients.num_partitions)
    source = federation.source
    facts = FederationFacts(
        class_names=list(source.class_names),
        concepts=list(source.concepts),
        num_clients=clients.num_partitions,
        train_counts=clients.counts(),
        test_images=len(source.test),
    )
    start = last_complete_round(folder, clients.num_partitions) if config.resume else None
    folder.write_facts(facts)
    metrics.federation(facts)
    _announce(config, facts)

    model = model_of(config, source).to(device)
    method = make_method(config)
    template = shared_weights(method, model)
    strategy = SupplementStrategy(
        make_strategy(config.server),
        config,
        template=template,
        num_classes=num_classes,
        handshake=replace(handshake, num_partitions=clients.num_partitions),
        partitions=clients.partitions,
        num_partitions=clients.num_partitions,
        run_dir=str(folder.path.resolve()),
        method=method,
        method_template=method.template(model),
        site=make_site(
            local,
            source,
            model,
            device=device,
            cache_dir=cache_dir(local),
            pools={key: hello.pool for key, hello in clients.clients.items()},
        ),
    )
    first = start.round + 1 if start else 0
    with Tracker(folder.path, enabled=config.tensorboard, first_round=first) as tracker:
        scored, tail = evaluate_global(model, federation, device)
        if start is not None:
            model.load_state_dict(dict(start.weights))
            strategy.restore(start.state)
            record = record_of(folder, start.round)
        elif scored is not None:
            record = round_record(Round(0, scored, tail), clients.num_partitions)
            folder.append_round(record)
            tracker.add(record)
            metrics.add(record)
        for number in range(max(first, 1), config.rounds + 1):
            phase("nodes", number)
            require_nodes(grid, config.server.min_nodes, config.server.timeout)
            watch = Stopwatch()
            phase("train", number)
            # Every client supplements, trains and probes; the strategy averages and plans.
            arrays = weights_to_record(shared_weights(method, model))
            requests = strategy.configure_train(number, arrays, ConfigRecord(), grid)
            replies = exchange(grid, requests, config.server.timeout)
            watch.lap("wait_train")
            phase("aggregate")
            arrays, _ = strategy.aggregate_train(number, replies)
            model.load_state_dict(weights_from_record(arrays, template), strict=False)
            watch.lap("aggregate")
            watch.move("aggregate", strategy.site.seconds)

            # The new global model, on the server's test set and on the clients' own.
            phase("evaluate")
            scored, tail = evaluate_global(model, federation, device)
            watch.lap("evaluate")
            evaluated = None
            if scored is None or personalized_due(config, number):
                phase("nodes")  # without any, Flower's strategies would wait for ever
                require_nodes(grid, config.server.min_nodes, config.server.timeout)
                phase("personalized")
                requests = strategy.configure_evaluate(number, arrays, ConfigRecord(), grid)
                replies = exchange(grid, requests, config.server.timeout)
                strategy.aggregate_evaluate(number, replies)
                evaluated = strategy.evaluated
                watch.lap("wait_personalized")
            if scored is None:
                scored = pooled_metrics(strategy.evaluated, num_classes)

            phase("record")
            laps, total = watch.laps, watch.total()
            result = Round(number, scored, tail, strategy.trained, evaluated, laps, total)
            record = round_record(result, clients.num_partitions, clients.overall())
            folder.append_round(record)
            # After the history: a round is complete when both are there.
            folder.checkpoint(Checkpoint(number, model.state_dict(), strategy.memory()))
            tracker.add(record)
            metrics.add(record)
            _logger.info(round_line(record, config))
    phase("keep")
    folder.save_model(model.state_dict())
    if len(source.test):
        write_features(folder, model, source.test, strategy.trained.replies, device)
    return record


def _check_public_part(config: RunConfig) -> None:
    try:
        folder = resolve_generator(config.generator.path)
    except GeneratorError:
        if config.generates_at_client:
            return  # a server that generates nothing need not have it: the clients check theirs
        raise
    check_public_part(folder, config.data)


def _announce(config: RunConfig, facts: FederationFacts) -> None:
    plan = (
        f"supplement {config.supplement.policy} from the {config.supplement.adapter} generator, "
        f"site {config.supplement.site}"
        if config.uses_generator
        else "no supplement"
    )
    if config.privacy.noise > 0:
        _logger.info(
            "privacy: a client's discrepancy vectors together are (%.2f, %g)-differentially "
            "private; its model and its number of images are not protected by that",
            epsilon(config),
            config.privacy.delta,
        )
    known = [sum(row) for row in facts.train_counts or [] if row is not None]
    images = f"{sum(known)} training images, " if known else ""
    tests = f"{facts.test_images} test images" if facts.test_images else "tested by the clients"
    _logger.info(
        "%s: %d clients, %d classes, %s%s; %s; %d rounds",
        config.method,
        facts.num_clients,
        len(facts.class_names),
        images,
        tests,
        plan,
        config.rounds,
    )
