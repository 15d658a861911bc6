"""The server's rounds: send the model out, average what comes back, measure, write it down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid

from regl_app.config import RunConfig
from regl_app.config.learning_rates import learning_rate
from regl_app.config.paths import cache_dir, with_absolute_paths
from regl_app.core.activity import phase, timed
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.core.types import Weights
from regl_app.data.depth import UsedDepth, agreed
from regl_app.data.federation import Federation
from regl_app.flower.messages.hello import ClientInfo
from regl_app.flower.messages.weights import weights_from_record, weights_to_record
from regl_app.learning.evaluation.metrics import Metrics
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.choosing import Choice, pooled_validation
from regl_app.rounds.exchange import Validation
from regl_app.rounds.server_round import evaluate_global, personalized_due
from regl_app.rounds.synthetic_steps import teach_first
from regl_app.runs.confusions import keep_confusion
from regl_app.runs.depths import SERVER, depth_words, depths_of
from regl_app.runs.folder import Checkpoint, RunFolder
from regl_app.runs.quality_line import quality_line
from regl_app.runs.records import RoundRecord
from regl_app.runs.round_line import round_line
from server_app.adapter_rounds import tune_together
from server_app.exchange import exchange
from server_app.handshake import Clients
from server_app.nodes import require_nodes
from server_app.pooled_evaluation import pooled_metrics
from server_app.prometheus import RunMetrics
from server_app.replies import Replies, listed
from server_app.resume import record_of
from server_app.round_record import Round, round_record
from server_app.supplement_strategy import SupplementStrategy
from server_app.trackers.trackers import Trackers


@dataclass
class RoundLoop:
    """A run's rounds over Flower's ``grid``; ``model`` holds the global model.

    ``strategy`` plans and averages, ``clients`` are those that were found, and ``folder``,
    ``trackers`` and ``metrics`` are told of every round.
    """

    grid: Grid
    config: RunConfig
    federation: Federation
    model: Classifier
    device: torch.device
    strategy: SupplementStrategy
    clients: Clients
    folder: RunFolder
    trackers: Trackers
    metrics: RunMetrics
    seconds: dict[str, float] = field(default_factory=dict)
    """Those of the parts of the round at hand."""
    before: list[Replies[Any]] = field(default_factory=list)
    """What came before the first round, and from nodes left out, until a round is written down."""
    depths: dict[str, UsedDepth] = field(init=False)
    """By which scales the server and its sites read deep greyscale, as far as they have told."""
    choice: Choice = field(init=False)
    """The best round so far, where the run chooses by validation images."""

    def __post_init__(self) -> None:
        self.choice = Choice(self.config.validation)
        own = self.federation.source.depth
        self.depths = {SERVER: own} if own else {}

    def run(self, start: Checkpoint | None) -> RoundRecord:
        """Go through all rounds, or those after ``start``, and return the last one's record.

        It may end before: see ``Choice.exhausted``.

        Raises:
            ReglError: too few clients can be used, or a round brought nothing.
        """
        record = self._begin() if start is None else self._go_on(start)
        first = start.round + 1 if start else 1
        for number in range(first, self.config.rounds + 1):
            if self.choice.exhausted:
                patience = self.config.validation.patience
                best = self.choice.words
                logger.info("no better one for %d rounds, so it ends (best: %s)", patience, best)
                break
            self.seconds = {}
            self._await_nodes(number)
            with timed() as whole:
                if number == 1:
                    self._tune_together()
                arrays = self._train(number)
                result = self._evaluate(number, arrays)
            record = self._record(result, whole.seconds)
        assert record is not None  # a run has a round
        return record

    @property
    def _template(self) -> Weights:
        return self.strategy.template

    def _begin(self) -> RoundRecord | None:
        """Write down the first model as round 0, where the server has images to test on."""
        local, source = with_absolute_paths(self.config), self.federation.source
        took = teach_first(
            local, self.model, source, device=self.device, cache_dir=cache_dir(local)
        )
        scored, tail = evaluate_global(self.model, self.federation, self.device)
        if scored is None:
            return None
        seconds = {"teach": took} if took else {}
        first = Round(0, scored, tail, server_seconds=seconds)
        record = round_record(first, self.clients.num_partitions, wall_seconds=took)
        self._tell(record, scored)
        return record

    def _go_on(self, start: Checkpoint) -> RoundRecord:
        self.model.load_state_dict(dict(start.weights))
        self.strategy.restore(start.state)
        self._choose_again(start.round)
        return record_of(self.folder, start.round)

    def _choose_again(self, number: int) -> None:
        """Come to the best of the first ``number`` rounds again, and see that its model is there.

        Raises:
            RunError: it is not.
        """
        if not self.config.validation.used:
            return
        for record in self.folder.read_history():
            if not 0 < record.round <= number:
                continue
            found = None
            if (seen := record.validation) is not None:
                loss = math.nan if seen.loss is None else seen.loss
                found = Validation(seen.images, seen.accuracy, loss)
            self.choice.add(record.round, found)
        for best in self.choice.needed.get(number, ()):
            try:
                self.folder.load_best(best)
            except RunError as error:
                if best == self.choice.best and self.config.validation.keep == "best":
                    raise
                logger.warning("%s; the choice goes on without it", error)
                self.choice.forget(best)
        self.folder.leave_best(self.choice.needed)

    def _await_nodes(self, number: int | None = None) -> None:
        """Wait for enough nodes: without any, Flower's strategies would wait for ever."""
        phase("nodes", number)
        server, left_out = self.config.server, self.strategy.left_out

        asked: list[Replies[ClientInfo]] = []

        def ask() -> None:
            # Beside a training that waits for others they would not be asked. Who is refused again
            # and again is told of once.
            told = {failure for each in asked for failure in each.failures}
            for each in self.strategy.ask_left_out(self.grid):
                new = tuple(failure for failure in each.failures if failure not in told)
                asked.append(replace(each, failures=new))

        require_nodes(self.grid, server.min_nodes, server.timeout, left_out.nodes, ask)
        self.before += asked

    def _tune_together(self) -> None:
        """Let all clients tune one adapter, where the run has one for all."""
        if not self.config.shares_adapter:
            return
        with timed("tune") as waiting:
            tuning, rounds = tune_together(
                self.grid,
                self.config,
                self.strategy.handshake,
                self.strategy.left_out.partitions,
                self.strategy.left_out.nodes,
            )
            self.before += rounds
            self.strategy.site.share(tuning)
        self.seconds["wait_tune"] = waiting.seconds

    def _train(self, number: int) -> ArrayRecord:
        """Let every client supplement, train and probe; average what comes back, and plan."""
        with timed("train") as waiting:
            state = self.strategy.going or self.model.state_dict()
            arrays = weights_to_record({name: state[name] for name in self._template})
            requests = self.strategy.configure_train(number, arrays, ConfigRecord(), self.grid)
            replies = exchange(self.grid, requests, self.config.server)
        with timed("aggregate") as aggregating:
            arrays, _ = self.strategy.aggregate_train(number, replies)
            if (asked_again := self.strategy.asked_again) is not None:
                self.before.append(asked_again)
            self.model.load_state_dict(weights_from_record(arrays, self._template), strict=False)
        # What the site took is told apart from the averaging.
        parts = self.strategy.site.seconds
        self.seconds["wait_train"] = waiting.seconds
        self.seconds["aggregate"] = max(0.0, aggregating.seconds - sum(parts.values()))
        self.seconds |= parts
        return arrays

    def _evaluate(self, number: int, arrays: ArrayRecord) -> Round:
        """Measure the new global model on the server's test set, and on the clients' own."""
        with timed("evaluate") as evaluating:
            scored, tail = evaluate_global(self.model, self.federation, self.device)
        self.seconds["evaluate"] = evaluating.seconds
        evaluated = None
        if scored is None or personalized_due(self.config, number):
            self._await_nodes()
            with timed("personalized") as waiting:
                requests = self.strategy.configure_evaluate(
                    number, arrays, ConfigRecord(), self.grid
                )
                replies = exchange(self.grid, requests, self.config.server)
                self.strategy.aggregate_evaluate(number, replies)
                evaluated = self.strategy.evaluated
            self.seconds["wait_personalized"] = waiting.seconds
        metrics = self._pooled() if scored is None else scored
        before, self.before = self.before, []
        train = self.config.train
        return Round(
            number,
            metrics,
            tail,
            self.strategy.trained,
            evaluated,
            self.seconds,
            before,
            learning_rate(train, number, self.config.rounds) if train.scheduled else None,
            self._validation(),
        )

    def _validation(self) -> Validation | None:
        if not self.config.validation.used:
            return None
        evaluated = self.strategy.evaluated
        known = self.choice.measured
        if not evaluated.replies and not known:
            raise RunError(f"no client could evaluate the global model{listed(evaluated.failures)}")
        # Who is away may be who has the images, and may come back.
        whole = len(evaluated.replies) == self.clients.num_partitions
        return pooled_validation(evaluated.replies.values(), required=whole and not known)

    def _pooled(self) -> Metrics:
        return pooled_metrics(self.strategy.evaluated, self.federation.num_classes)

    def _record(self, result: Round, seconds: float) -> RoundRecord:
        """Write the round into history and checkpoint: it is complete when both are there."""
        phase("record")
        record = round_record(
            result, self.clients.num_partitions, self.clients.overall(), wall_seconds=seconds
        )
        chooses = self.config.validation.used
        better = self.choice.add(result.number, result.validation) if chooses else None
        if chooses and not self.choice.compared and max(self.choice.recent):
            logger.warning(
                "round %d is not compared with the others: %d of %d validation images were "
                "measured, as not every client answered",
                result.number,
                self.choice.recent[-1],
                max(self.choice.recent),
            )
        if better:  # before the checkpoint, by which the round is complete
            self.folder.keep_best(result.number, self.model.state_dict())
        checkpoint = Checkpoint(result.number, self.model.state_dict(), self.strategy.memory())
        self._tell(record, result.metrics, checkpoint, better)
        if chooses:
            self.folder.leave_best(self.choice.needed)
        self._tell_depths(record)
        logger.info(round_line(record, self.config))
        if quality := quality_line(record):
            logger.info(quality)
        return record

    def _tell_depths(self, record: RoundRecord) -> None:
        """Warn, once, where sites and server read deep greyscale by different rules."""
        known = len(self.depths) > 0 and agreed(self.depths.values()) is None
        self.depths |= depths_of(None, [record])
        if self.depths and not known and agreed(self.depths.values()) is None:
            logger.warning(
                "sites read deep greyscale by different rules, as each goes by its own pictures: "
                "%s (name one for all by data.depth)",
                depth_words(self.depths),
            )

    def _tell(
        self,
        record: RoundRecord,
        metrics: Metrics,
        checkpoint: Checkpoint | None = None,
        better: bool | None = None,
    ) -> None:
        self.folder.append_round(record)
        keep_confusion(self.folder.path, record.round, metrics.confusion, better)
        if checkpoint is not None:
            self.folder.checkpoint(checkpoint)
        self.trackers.add(record)
        self.metrics.add(record)
