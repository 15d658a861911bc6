"""Discrepancy-driven supplement around any Flower strategy, as Flower's DP wrappers are built."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from regl_app.config import RunConfig
from regl_app.config.choices import STRATEGIES
from regl_app.core.errors import ProtocolError, RunError
from regl_app.core.log import logger
from regl_app.core.types import Tensors, Weights
from regl_app.flower.messages.adapter import put_adapter
from regl_app.flower.messages.content import (
    ARRAYS,
    METHOD,
    OURS,
    most_bytes,
    request_record,
    without_ours,
)
from regl_app.flower.messages.evaluate import EvaluateReply
from regl_app.flower.messages.handshake import Handshake
from regl_app.flower.messages.hello import ClientInfo
from regl_app.flower.messages.train import TrainReply, TrainRequest
from regl_app.flower.messages.weights import weights_from_record, weights_to_record
from regl_app.learning.methods.method import Method
from regl_app.rounds.method_state import aggregate_method, reported
from regl_app.rounds.server_round import sampled_clients
from regl_app.rounds.sites.site import Site
from regl_app.rounds.without_images import still_without_images, without_images
from server_app.checkpoint_state import ServerMemory
from server_app.exchange import apart, exchange, of_requests
from server_app.left_out import LeftOut
from server_app.parameter_steps import step_parameters_only
from server_app.replies import Replies, check_replies, listed
from server_app.strategy_state import go_on_from, inner_state, restore_inner_state

_INNER, _ASKED_SECONDS = "inner.", 60.0


class SupplementStrategy(Strategy):
    """Plans each client's synthetic images and guards the strategy that averages the models.

    Each round it tells every client its quotas, checks the replies, gathers the discrepancy
    vectors (K x C), allocates the next quotas, and hands models and metrics, sorted by partition,
    on to ``inner``. ``trained`` and ``evaluated`` hold the last phase's replies, ``asked_again``
    those of nodes that were refused at hello, if there are any.

    Args:
        inner: the Flower strategy that aggregates; it must use every node it is offered.
        config: the run.
        template: a model state with the names, shapes and types that all others must have.
        num_classes: C.
        handshake: code and configuration that clients must share.
        partitions: node id -> partition, as introduced.
        left_out: nodes that were refused at hello.
        num_partitions: K.
        empty: the partitions that are known to have no images.
        run_dir: the run folder, for clients on the same machine.
        site: the server's half of the supplement.
        method: the run's; it may keep a state at the server.
        method_template: that state at first.
        method_sends: the bound of what clients may send for it; None: as ``method_template``.
        buffers: names in ``template`` of what is averaged, whatever ``inner`` does to parameters.

    ``going`` is what the next round goes on from, where that is not the model that
    ``aggregate_train`` returned, by which the round is measured.
    """

    trained: Replies[TrainReply]
    evaluated: Replies[EvaluateReply]
    asked_again: Replies[ClientInfo] | None = None

    def __init__(
        self,
        inner: Strategy,
        config: RunConfig,
        *,
        template: Weights,
        num_classes: int,
        handshake: Handshake,
        partitions: Mapping[int, int],
        left_out: Collection[int] = (),
        num_partitions: int,
        empty: frozenset[int] = frozenset(),
        run_dir: str = "",
        site: Site,
        method: Method,
        method_template: Tensors,
        method_sends: Tensors | None = None,
        buffers: Collection[str] = (),
    ) -> None:
        self.inner = inner
        self._config = config
        self.template = template
        self._num_classes = num_classes
        self.handshake = handshake
        self._partitions = dict(partitions)
        self.left_out = LeftOut(set(left_out), handshake, num_classes, self._partitions)
        self._num_partitions = num_partitions
        self._empty = empty
        self._run_dir = run_dir
        self._method = method
        self._method_state = dict(method_template)
        self._buffers = frozenset(buffers)
        self._method_sends = method_template if method_sends is None else method_sends
        self.going: Weights = {}
        self.site = site
        self._run = handshake.run or uuid.uuid4().hex  # no result depends on it
        self.trained = Replies({}, {}, (), {}, {})
        self._requests: list[Message] = []
        self._start: ArrayRecord | None = None
        self._grid: Grid | None = None

    def memory(self) -> dict[str, torch.Tensor]:
        """Return what the next rounds need of this one, as tensors."""
        own = ServerMemory(
            self._run,
            self.handshake.code_hash,
            method=self._method_state,
            going=self.going,
            empty=self._empty,
            **self.site.memory(),
        )
        return own.to_tensors() | {
            _INNER + name: value for name, value in inner_state(self.inner).items()
        }

    def restore(self, memory: Mapping[str, torch.Tensor]) -> None:
        """Go on from what :meth:`memory` returned."""
        own = ServerMemory.from_tensors(memory)
        self._run = own.run
        if own.code != self.handshake.code_hash:
            logger.warning(
                "this run was begun by other code (%s, now %s): clients forget what they kept, and "
                "its end may be another",
                own.code,
                self.handshake.code_hash,
            )
        else:  # a state that clients have no part of any more would only mislead them
            self._method_state = dict(own.method)
        self.going = own.going
        self._empty |= own.empty
        self.site.restore(vars(own))
        inner = {k.removeprefix(_INNER): v for k, v in memory.items() if k.startswith(_INNER)}
        restore_inner_state(self.inner, inner)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the inner strategy's requests to this round's clients, each with its quotas.

        Nodes that were refused at hello are asked beside it whether they can take part now.
        """
        self._start = arrays
        requests = self._allowed(
            self.inner.configure_train(server_round, arrays, config, grid), grid
        )
        self._requests = self._sampled(server_round, requests)
        for request in self._requests:
            partition_id = self._partitions.get(request.metadata.dst_node_id, -1)
            ours = TrainRequest(
                server_round,
                self._run_dir,
                self.site.quotas(partition_id, server_round),
                self.site.payload(partition_id, server_round),
                self._run,
            )
            _add(request, ours.to_record(self.handshake))
            put_adapter(request.content, self.site.adapter(partition_id))
            if self._method_state:
                request.content[METHOD] = weights_to_record(self._method_state)
        self._requests += self.left_out.requests(self._connected())
        return self._requests

    def ask_left_out(self, grid: Grid) -> list[Replies[ClientInfo]]:
        """Ask nodes that were refused at hello whether they can take part now; return what came."""
        requests = self.left_out.requests(list(grid.get_node_ids()))
        if not requests:
            return []
        server = self._config.server
        patience = {"timeout": min(server.timeout, _ASKED_SECONDS)}
        replies = exchange(grid, requests, server.model_copy(update=patience))
        return [self._taken_back(requests, replies)]

    def _taken_back(
        self, requests: Iterable[Message], replies: Iterable[Message]
    ) -> Replies[ClientInfo]:
        found = self.left_out.take_back(requests, replies)
        told = {key: info.real_counts for key, info in found.replies.items()}
        self._empty |= without_images(told)
        return found

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord, MetricRecord | None]:
        """Return the new global model from the usable replies, and plan the next quotas.

        Raises:
            RunError: fewer than ``server.min-replies`` are usable, or the average is not finite.
        """
        self._requests, asked_again = apart(self._requests)
        replies, answers = of_requests(replies, asked_again)
        self.trained = check_replies(
            self._requests, replies, lambda content: self._read(content, server_round),
            self._partitions, "train",
            most_bytes(self._num_classes, self.template, self._method_sends), self._connected,
        )  # fmt: skip
        self.asked_again = None
        if asked_again:
            self.asked_again = self._taken_back(asked_again, answers)
        asked = [
            self._partitions.get(request.metadata.dst_node_id, -1) for request in self._requests
        ]
        self.site.answered(asked, self.trained.replies)
        self._refuse(self.site.unreadable(self.trained.replies))
        usable = [key for key, reply in self.trained.replies.items() if reply.num_examples > 0]
        if len(usable) < self._config.server.min_replies:
            raise RunError(
                f"round {server_round}: {len(usable)} of {len(self._requests)} train replies were "
                f"usable, the run needs server.min-replies={self._config.server.min_replies}"
                + listed(self.trained.failures)
            )
        # A client without images has nothing to average: the inner strategy never sees it.
        messages = {key: self.trained.messages[key] for key in usable}
        for message in messages.values():
            message.content = without_ours(message.content)
        for key, weights in self.site.before_average(server_round, self.trained.replies).items():
            messages[key].content[ARRAYS] = weights_to_record(weights)
        averaged, metrics = self.inner.aggregate_train(server_round, list(messages.values()))
        assert self._start is not None  # nobody answers before being asked
        if averaged is not None and STRATEGIES[self._config.server.strategy].settings:
            averaged = step_parameters_only(
                averaged, self._start, list(messages.values()), self._buffers
            )
            go_on_from(self.inner, averaged)
        arrays = self._checked(server_round, averaged)
        self._empty = still_without_images(self._empty, self.trained.replies)
        able = self._num_partitions - len(self._empty)
        self._method_state = dict(
            aggregate_method(
                self._config,
                self._method,
                self._method_state,
                self.trained.replies,
                able,
            )
        )
        weights = weights_from_record(arrays, self.template)
        start = weights_from_record(self._start, self.template)
        if self.site.teacher is not None:
            weights = self.site.teach(server_round, weights, self.trained.replies, start)
            arrays = weights_to_record(weights)
            go_on_from(self.inner, arrays)
        self.site.after_average(server_round, weights, self.trained.replies)
        self._note()
        if self._method.reports:
            self.going = weights
            arrays = weights_to_record(
                reported(
                    self._config, self._method, server_round, start, weights, self.trained.replies
                )
            )
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the inner strategy's requests, every client being asked."""
        requests = self.inner.configure_evaluate(server_round, arrays, config, grid)
        self._requests = self._allowed(requests, grid)
        for request in self._requests:
            run = self._run if self._method.keeps else ""  # to find what of the model they keep
            _add(request, request_record(server_round, self.handshake, run))
        return self._requests

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return the inner strategy's average of the usable replies' metrics, if there are any."""
        self.evaluated = check_replies(
            self._requests, replies,
            lambda content: EvaluateReply.read(
                content, server_round=server_round, num_classes=self._num_classes
            ),
            self._partitions, "evaluate", most_bytes(self._num_classes), self._connected,
        )  # fmt: skip
        messages = [
            self.evaluated.messages[key]
            for key, reply in self.evaluated.replies.items()
            if reply.num_examples > 0
        ]
        for message in messages:
            message.content = without_ours(message.content)
        return self.inner.aggregate_evaluate(server_round, messages) if messages else None

    def summary(self) -> None:
        """Log the inner strategy's settings."""
        self.inner.summary()

    def _read(self, content: RecordDict, server_round: int) -> TrainReply:
        reply = TrainReply.read(
            content,
            server_round=server_round,
            template=self.template,
            num_classes=self._num_classes,
            method=self._method_sends,
        )
        if reply.partition_id >= self._num_partitions:
            raise ProtocolError(
                f"partition-id must be < {self._num_partitions}, got {reply.partition_id}"
            )
        return reply

    def _refuse(self, unreadable: Collection[int]) -> None:
        """Leave out models whose answers are no numbers, as replies that cannot be used."""
        if not unreadable:
            return
        why = "refused: its model's answers are not finite (it has diverged: lower train.lr)"
        failures = tuple(f"train: client {key}: {why}" for key in sorted(unreadable))
        for failure in failures:
            logger.warning("%s", failure)
        kept = dataclasses.replace(
            self.trained,
            replies={k: v for k, v in self.trained.replies.items() if k not in unreadable},
            messages={k: v for k, v in self.trained.messages.items() if k not in unreadable},
            failures=tuple(sorted((*self.trained.failures, *failures))),
        )
        self.trained = kept

    def _note(self) -> None:
        """Write into the round's replies, for the history, what the server found and made."""
        replies = dict(self.trained.replies)
        for key, changes in self.site.notes.items():
            replies[key] = dataclasses.replace(replies[key], **changes)
        self.trained = dataclasses.replace(self.trained, replies=replies)

    def _sampled(self, server_round: int, requests: list[Message]) -> list[Message]:
        """Return the requests of this round's clients, by partition: node ids are random.

        Nodes of which nobody knows which client they are, as they came later, are asked beside it.
        """
        by_node = {request.metadata.dst_node_id: request for request in requests}
        known = sorted(by_node.keys() & self._partitions.keys(), key=self._partitions.__getitem__)
        places = sampled_clients(self._config, server_round, len(known))
        new = sorted(by_node.keys() - self._partitions.keys())
        return [by_node[node_id] for node_id in (*(known[place] for place in places), *new)]

    def _allowed(self, requests: Iterable[Message], grid: Grid) -> list[Message]:
        """Return the requests to nodes that were not refused at hello."""
        self._grid = grid
        return [r for r in requests if r.metadata.dst_node_id not in self.left_out.nodes]

    def _connected(self) -> set[int]:
        return set() if self._grid is None else set(self._grid.get_node_ids())

    def _checked(self, server_round: int, averaged: ArrayRecord | None) -> ArrayRecord:
        if averaged is None:
            raise RunError(f"round {server_round}: {type(self.inner).__name__} returned no model")
        arrays = {}
        for key, value in self.template.items():
            # Some of Flower's strategies return float64 where float32 went in.
            array = np.asarray(averaged[key].numpy(), dtype=value.numpy().dtype)
            if not np.isfinite(array).all():
                raise RunError(
                    f"round {server_round}: the aggregated model is not finite in {key!r} "
                    f"(server.strategy={self._config.server.strategy!r}; lower train.lr)"
                )
            arrays[key] = Array(array)
        return ArrayRecord(arrays)


def _add(request: Message, ours: ConfigRecord) -> None:
    # The inner strategy gives all its requests one shared content.
    request.content = RecordDict({**request.content, OURS: ours})
