"""The server's part: find the clients, get a run ready, go through its rounds, keep the rest."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from regl_app.config import RunConfig
from regl_app.config.learning_rates import faint_from
from regl_app.config.paths import cache_dir, with_absolute_paths
from regl_app.core.activity import activity, phase
from regl_app.core.devices import resolve_device
from regl_app.core.errors import GeneratorError
from regl_app.core.formats import format_seconds
from regl_app.core.log import RUN_FOLDER_LINE, SERVER, logger, setup_logging
from regl_app.core.torch_defaults import plain_torch
from regl_app.data.absent_classes import absent_classes
from regl_app.data.concepts import phrasings, prompts_line
from regl_app.data.federation import Federation
from regl_app.data.partition import check_images
from regl_app.data.prompt_table import run_source, with_prompts_inside
from regl_app.data.run_files import RunFiles, read_by_all
from regl_app.data.source import Source
from regl_app.flower.code_hash import refuse_uncovered, run_code_hash
from regl_app.flower.deployment.orphans import end_with_parent
from regl_app.flower.messages.handshake import Handshake, config_digest
from regl_app.flower.run_state import RUN_FOLDER_STATE
from regl_app.generator.card_precision import precision_words
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.compatibility import check_public_part, check_source
from regl_app.generator.fitting import fit_words, unheard_prompt
from regl_app.generator.prompts import class_phrasings
from regl_app.learning.methods.method import detached, personal
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import forget_networks, model_of, start_model
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.models.pretrained import check_weights, weights_digest
from regl_app.rounds.method_state import first_state, most_sent, shared_weights
from regl_app.rounds.sites.registry import make_site
from regl_app.rounds.without_images import without_images
from regl_app.runs.depths import depth_record
from regl_app.runs.folder import WEIGHTS, RunFolder
from regl_app.runs.kept import trained_by, up_to_kept
from regl_app.runs.records import FederationFacts, RoundRecord
from regl_app.runs.round_line import scores
from regl_app.supplement.privacy import PER_IMAGE, budget_words, epsilon, histogram_epsilon
from server_app.artifacts import make_report, write_features
from server_app.checkpoint_state import ServerMemory
from server_app.flower_strategies import make_strategy
from server_app.handshake import Clients, discover_clients, without_odd_ones
from server_app.prometheus import RunMetrics
from server_app.resume import check_number, last_complete_round, note_files, open_run, record_of
from server_app.round_loop import RoundLoop
from server_app.run_end import record_run_end
from server_app.supplement_strategy import SupplementStrategy
from server_app.trackers.registry import make_trackers
from server_app.trackers.tracker import TrackedRun
from server_app.trackers.trackers import Trackers

app = ServerApp()


@app.main()
@plain_torch()
def main(grid: Grid, context: Context) -> None:
    """Run the configured federation; raises, so that the run fails, if nothing was learned."""
    started = time.monotonic()
    end_with_parent()
    config = with_prompts_inside(RunConfig.from_flat(context.run_config))
    setup_logging(config.log_format)
    refuse_uncovered(config)
    torch.set_num_threads(config.threads)
    trackers = make_trackers(config)
    local = with_absolute_paths(config)
    if not config.resume:  # a run that goes on may not need its weights again
        check_weights(local.model)
    folder = open_run(config, Path(local.out_dir), Path(local.resume) if local.resume else None)
    context.state[RUN_FOLDER_STATE] = ConfigRecord({"path": str(folder.path)})
    with activity(SERVER, "start"):
        logger.info("%s%s", RUN_FOLDER_LINE, folder.path)
        metrics = RunMetrics(folder, config, lambda: len(list(grid.get_node_ids())))
        with trackers:
            with record_run_end(folder, metrics.end, started) as rounds, metrics:
                kept = federate(grid, config, folder, metrics, trackers, rounds)
            phase("report")
            if config.report:
                make_report(folder)
        took = format_seconds(time.monotonic() - started)
        whose = f"kept is round {kept.round}, " if rounds else ""
        facts = folder.read_facts()
        some = ""
        if facts is not None:
            history = up_to_kept(folder.read_history(), folder.read_result())
            by, total = trained_by(config, facts.num_clients, history), facts.num_clients
            some = f"; trained by {by} of {total} clients" if by < total else ""
        logger.info("finished in %s: %s%s%s", took, whose, scores(kept, config), some)


def federate(
    grid: Grid,
    config: RunConfig,
    folder: RunFolder,
    metrics: RunMetrics,
    trackers: Trackers,
    rounds: dict[str, int],
) -> RoundRecord:
    """Train for ``config.rounds`` rounds, or until it is no better; return the kept one's record.

    ``rounds`` receives which of them was the best and whose model is kept, where the run chooses.

    Raises:
        ReglError: too few clients can be used, or a round brought nothing.
    """
    local = with_absolute_paths(config)
    handshake = Handshake(run_code_hash(config), config_digest(config), files=read_by_all(local))
    device = resolve_device(config.device)
    whole = run_source(local)
    files = RunFiles.of(local.data, local.partition)  # now: what was absent has been fetched
    note_files(folder, files.words, config)
    check_images(config.partition, whole.train)
    if config.needs_generator:
        check_source(config, whole)
        _check_public_part(local)
    # What does not fit the data fails before anybody is asked. A run that goes on after a round has
    # its weights already.
    begun = model_of if config.resume and folder.has_checkpoint else start_model
    if begun is model_of:
        forget_networks()  # as start_model does
    model = begun(local, whole)
    if local.model.weights and begun is start_model:
        folder.note(WEIGHTS, weights_digest(local.model))
        _warn_of_own_parts(local, model)
    start = last_complete_round(folder) if config.resume else None
    if config.data.local:  # from hello on sites have to know which of their pictures it began with
        run = ServerMemory.from_tensors(start.state).run if start else uuid.uuid4().hex
        handshake = replace(handshake, run=run)
    phase("hello")
    clients = discover_clients(grid, config.server, handshake, whole.num_classes)
    federation = Federation.load(local, clients.num_partitions, files=files)
    clients = without_odd_ones(clients, local, federation)
    prompts = _prompts(config, federation)
    facts = _facts(federation, clients, prompts)
    if config.resume:
        check_number(folder, clients.num_partitions)
    folder.write_facts(facts)
    metrics.federation(facts)
    _announce(config, facts)
    for words in absent_classes(federation.source, local.data):
        logger.warning("%s", words)
    if config.needs_generator and (words := fit_words(local)):
        logger.info("generator: %s", words)
    if words := precision_words(local):
        logger.info("generator's precision: %s", words)
    if prompts:
        ignored = unheard_prompt(local)
        away = "" if ignored else config.generator.negative_prompt
        logger.info("prompts: %s", prompts_line(prompts, away))
        if ignored:
            logger.warning("%s", ignored)

    model.to(device)
    strategy = _strategy(local, handshake, clients, federation.source, model, device, folder)
    first = start.round + 1 if start else 0
    trackers.begin(TrackedRun(folder, config, facts, first))
    loop = RoundLoop(
        grid, config, federation, model, device, strategy, clients, folder, trackers, metrics
    )
    record = loop.run(start)
    phase("keep")
    if config.validation.used and not loop.choice.best:
        logger.warning("no round's validation was measured: the last round's model is kept")
    if loop.choice.best:
        rounds |= _chosen(loop, record.round)
        record = record_of(folder, rounds["model_round"])
    folder.save_model(model.state_dict())
    test = federation.source.test
    # A model without its clients' own parts sees nothing.
    if len(test) and not _own_parts(config, model):
        write_features(folder, model, test, strategy.trained.replies, device)
    return record


def _own_parts(config: RunConfig, model: Classifier) -> frozenset[str]:
    """Return the names of the tensors that the objective leaves to clients."""
    return personal(make_method(config), list(model.state_dict()))


def _warn_of_own_parts(config: RunConfig, model: Classifier) -> None:
    if own := sorted(_own_parts(config, model)):
        logger.warning(
            "model.weights=%s: what objective=%r leaves to clients begins untrained there, as it "
            "is never sent: %d tensors, such as %s",
            config.model.weights,
            config.objective,
            len(own),
            own[0],
        )


def _chosen(loop: RoundLoop, last: int) -> dict[str, int]:
    """Give the loop's model the weights of the round that is to be kept; say which that is."""
    best, kept = loop.choice.best, last
    loop.folder.leave_best(dict.fromkeys(loop.choice.needed, (best,)))  # none goes on from here
    if loop.config.validation.keep == "best":
        kept = best
        loop.model.load_state_dict(dict(loop.folder.load_best(best)))
    logger.info("best: %s; model.safetensors is that of round %d", loop.choice.words, kept)
    return {"best_round": best, "model_round": kept}


def _prompts(config: RunConfig, federation: Federation) -> list[list[str]]:
    """Return each class's prompts; nothing where nothing is generated."""
    if not config.needs_generator:
        return []
    return [list(each) for each in class_phrasings(config.generator, federation.source.concepts)]


def _facts(federation: Federation, clients: Clients, prompts: list[list[str]]) -> FederationFacts:
    return FederationFacts(
        class_names=list(federation.source.class_names),
        concepts=[" | ".join(phrasings(concept)) for concept in federation.source.concepts],
        prompts=prompts,
        num_clients=clients.num_partitions,
        train_counts=clients.counts(),
        test_images=len(federation.source.test),
        unreadable=federation.source.unreadable,
        channels=federation.source.test.shape[0],
        depth=depth_record(federation.source.depth),
    )


def _strategy(
    config: RunConfig,
    handshake: Handshake,
    clients: Clients,
    source: Source,
    model: Classifier,
    device: torch.device,
    folder: RunFolder,
) -> SupplementStrategy:
    method = make_method(config)
    return SupplementStrategy(
        make_strategy(config.server),
        config,
        template=shared_weights(config, method, model),
        num_classes=source.num_classes,
        handshake=replace(
            handshake, num_partitions=clients.num_partitions, alike=lambda: clients.alike
        ),
        partitions=clients.partitions,
        left_out=clients.left_out,
        num_partitions=clients.num_partitions,
        empty=without_images({k: each.real_counts for k, each in clients.clients.items()}),
        run_dir=str(folder.path.resolve()),
        method=method,
        method_template=first_state(config, method, model),
        method_sends=detached(most_sent(config, method, model)),
        buffers=[name for name, _ in model.named_buffers()],
        site=make_site(
            config,
            source,
            model,
            device=device,
            cache_dir=cache_dir(config),
            pools={key: client.pool for key, client in clients.clients.items()},
        ),
    )


def _check_public_part(config: RunConfig) -> None:
    try:
        folder = resolve_generator(config.generator.path)
    except GeneratorError:
        if not config.needs_generator_at_server:
            return  # a server that generates nothing need not have it: the clients check theirs
        raise
    check_public_part(folder, config.data)


def _announce(config: RunConfig, facts: FederationFacts) -> None:
    plan = (
        f"supplement {config.supplement.policy} from the {config.supplement.adapter} generator, "
        f"site {config.supplement.site}{', matched by spectrum' * config.matches_images}"
        if config.uses_generator
        else "no supplement"
    )
    if config.teaching_words:
        plan += f"; {config.teaching_words}"
    if config.sharing_words:
        plan += f"; {config.sharing_words}"
    if config.privacy.noise > 0:
        logger.info(
            "privacy: a client's discrepancy vectors together are %s; its model and its number of "
            "images are not protected by that",
            budget_words(config, epsilon(config)),
        )
    if config.tells_noisy_counts:
        logger.info(
            "privacy: a client's label counts under noise are %s; its model and its number of "
            "images are not protected by that",
            budget_words(config, histogram_epsilon(config), PER_IMAGE),
        )
    noisy = config.privacy.noise > 0 or config.tells_noisy_counts
    if noisy and config.privacy.reproducible and config.data.local:
        logger.warning(
            "privacy.reproducible=true: the sites' noise is drawn from the run's seed, which all "
            "parties know, and hides nothing (set it to false; true is for comparisons alone)"
        )
    if (first := faint_from(config.train, config.rounds)) is not None:
        logger.warning(
            "from round %d of %d on the learning rate is 1e-8 of train.lr or less (train.schedule="
            "%r): next to nothing is trained (raise train.decay or train.decay-every)",
            first,
            config.rounds,
            config.train.schedule,
        )
    known = [sum(row) for row in facts.train_counts or [] if row is not None]
    images = f"{sum(known)} training images, " if known else ""
    tests = f"{facts.test_images} test images" if facts.test_images else "tested by the clients"
    logger.info(
        "%s: %d clients, %d classes, %s%s; %s; %d rounds",
        config.method,
        facts.num_clients,
        len(facts.class_names),
        images,
        tests,
        plan,
        config.rounds,
    )
