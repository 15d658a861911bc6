"""A federation inside this process: Flower's apps on a ``Grid`` of threads, without Ray.

Runs the very ServerApp and ClientApp objects that ``flwr run`` runs and gives the same history,
without its 20 seconds of start-up: for comparisons, tests and notebooks. It relies on Flower's
internal task identity, hence the upper bound on flwr in pyproject.toml.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message, RecordDict
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.common.constant import (
    NUM_PARTITIONS_KEY,
    PARTITION_ID_KEY,
    SUPERLINK_NODE_ID,
    ErrorCode,
)
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.object_ref import load_app
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from regl_app.config import RunConfig
from regl_app.config.paths import refuse_unwritable, with_absolute_paths
from regl_app.core.app_root import APP_ROOT
from regl_app.core.cards import use_card
from regl_app.core.devices import resolve_device
from regl_app.core.errors import ConfigError, RunError
from regl_app.core.log import logger
from regl_app.core.torch_defaults import plain_torch
from regl_app.core.types import Scalar
from regl_app.data.partition import check_partition
from regl_app.flower.engines.resources import cards_of, places_in_process
from regl_app.flower.run_state import RUN_FOLDER_STATE
from regl_app.generator.kept_foundations import free_idle, give_back
from regl_app.learning.methods.registry import make_method

SERVER_APP = "server_app.main:app"
CLIENT_APP = "client_app.main:app"

_THREADS = "in-process-client"
_AT_ONCE = 1.0

_run_numbers = itertools.count(1)


class InProcessGrid(Grid):
    """A Flower ``Grid`` whose nodes are contexts in this process, served by worker threads.

    Args:
        client_app: called for every request.
        num_nodes: number of virtual clients.
        run_config: Flower's run configuration.
        workers: number of threads.
        prepare: called once in each thread before any order, one thread after the other.
        sites: the nodes' own image folders, as ``data.source='site'`` needs them.
        cards: the GPUs that threads take in turn; none: nobody says which.
    """

    def __init__(
        self,
        client_app: ClientApp,
        num_nodes: int,
        run_config: dict[str, Scalar],
        workers: int,
        prepare: Callable[[], None] | None = None,
        sites: Sequence[Path] = (),
        cards: Sequence[int] = (),
    ) -> None:
        self._app = client_app
        self._run = Run.create_empty(next(_run_numbers))
        self._numbers = itertools.count(1)
        # Node ids say nothing about partitions, as in the real runtime.
        self._contexts = {
            1000 + partition_id: Context(
                run_id=self._run.run_id,
                node_id=1000 + partition_id,
                node_config={
                    PARTITION_ID_KEY: partition_id,
                    NUM_PARTITIONS_KEY: num_nodes,
                    **(_site(sites[partition_id]) if sites else {}),
                },
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for partition_id in range(num_nodes)
        }
        self._pool = ThreadPoolExecutor(
            workers, thread_name_prefix=_THREADS, initializer=_takes_turns(cards)
        )
        self._pending: dict[str, Future[Message]] = {}
        if prepare is not None:
            self._prepare(prepare, workers)

    def _prepare(self, prepare: Callable[[], None], workers: int) -> None:
        lock, everyone = threading.Lock(), threading.Barrier(workers)
        left = threading.Event()
        # What an earlier run had more of than there are threads now is of no use.
        prepared = threading.Barrier(workers, free_idle)

        def in_turn() -> None:
            everyone.wait()  # a thread that waits takes no second turn
            try:
                with lock:
                    if not left.is_set():
                        prepare()
            finally:
                with suppress(threading.BrokenBarrierError):
                    prepared.wait()  # what one gives back would be the next one's
                give_back()

        turns: list[Future[None]] = []
        try:
            for _ in range(workers):
                turns.append(self._pool.submit(in_turn))
            for turn in turns:
                turn.result()
        except BaseException:
            left.set()
            # Whoever waits for all would for ever: some may not have begun, or not have woken yet.
            everyone.abort()
            prepared.abort()
            self._close("{} thread{s} at loading", turns)
            raise

    def close(self) -> None:
        """Stop the worker threads, once their clients are done; requests not begun are dropped."""
        self._close("{} client{s} at work", self._pending.values())

    def _close(self, who: str, futures: Iterable[Future[Any]]) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        at_work = [each for each in futures if each.running()]
        if left := len(wait(at_work, _AT_ONCE).not_done):
            again = " again" if isinstance(sys.exception(), KeyboardInterrupt) else ""
            whom = who.format(left, s="s" * (left != 1))
            logger.warning("closing: waiting for %s (Ctrl-C%s leaves at once)", whom, again)
        self._pool.shutdown(wait=True)

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Return the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new request to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand requests to the worker threads; return the requests' ids.

        Whoever calls gives back the generator's foundation: the threads use it meanwhile.
        """
        give_back()
        ids = []
        for message in messages:
            message_id = f"request-{next(self._numbers)}"
            message.metadata.__dict__["_message_id"] = message_id
            self._pending[message_id] = self._pool.submit(self._serve, message)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, each once."""
        done = [key for key in message_ids if key in self._pending and self._pending[key].done()]
        return [self._pending.pop(key).result() for key in done]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the replies that arrive within ``timeout`` seconds."""
        open_ids = set(self.push_messages(messages))
        deadline = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while open_ids:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            wait([self._pending[key] for key in open_ids], left, FIRST_COMPLETED)
            arrived = list(self.pull_messages(open_ids))
            open_ids -= {reply.metadata.reply_to_message_id for reply in arrived}
            replies += arrived
        return replies

    def _serve(self, request: Message) -> Message:
        try:
            # A copy, as if it had travelled (cheap: the arrays' bytes are shared).
            request = copy.deepcopy(request)
            reply = self._app(request, self._contexts[request.metadata.dst_node_id])
        except Exception as error:  # as in Flower: a client's exception is its reply
            logger.debug("%s", traceback.format_exc())
            failure = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error))
            reply = Message(failure, reply_to=request)
        finally:
            give_back()
        number = next(self._numbers)
        reply.metadata.__dict__["_message_id"] = f"reply-{number}"
        return reply


def clients_at_work() -> bool:
    """Return whether threads of a grid go on that was left by Ctrl-C: Python waits for them."""
    return any(thread.name.startswith(_THREADS) for thread in threading.enumerate())


def _takes_turns(cards: Sequence[int]) -> Callable[[], None]:
    """Return what gives each thread that calls it the next of ``cards``."""
    turns = itertools.cycle(cards)
    lock = threading.Lock()

    def take() -> None:
        with lock:
            card = next(turns, None)
        if card is not None:
            use_card(card)

    return take


def _site(folder: Path) -> dict[str, Scalar]:
    # Whoever calls is every node's operator.
    return {"data-dir": str(folder.resolve()), "data-root": os.sep}


@plain_torch()
def run_in_process(
    config: RunConfig,
    *,
    clients: int = 0,
    sites: Sequence[Path] = (),
    server_app: ServerApp | None = None,
    client_app: ClientApp | None = None,
    workers: int | None = None,
) -> Path:
    """Run ``config`` with ``clients`` virtual clients on ``workers`` threads; return its folder.

    With ``data.source='site'`` give ``sites`` instead, one image folder per client.
    Without ``server_app`` or ``client_app`` the project's own are loaded. ``workers`` defaults
    to one per processor, since each client uses ``config.threads``, and to one per GPU where they
    have generators there. The result does not depend on it. One run at a time per process.

    Raises:
        ReglError: the run failed.
    """
    refuse_unwritable(config, keeps=make_method(config).keeps)
    # The folder that a run leaves is read from anywhere.
    config = with_absolute_paths(config)
    server = server_app or load_app(SERVER_APP, RunError, APP_ROOT)
    client = client_app or load_app(CLIENT_APP, RunError, APP_ROOT)
    workers = workers or places_in_process(config)
    flat, clients = config.to_flat(), len(sites) or clients
    if clients < 1:
        raise ConfigError(f"clients must be >= 1, got {clients} (or give sites)")
    if not config.data.local:
        check_partition(config.partition, clients)
    workers = min(workers, clients)
    give_back()  # what the caller has looked at may be what the threads need
    prepare, cards = _preparation(config), cards_of(config.device)
    grid = InProcessGrid(client, clients, flat, workers, prepare, sites, cards)
    TaskIdentity.run_id, TaskIdentity.task_id = grid.run.run_id, 0
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    context = Context(grid.run.run_id, SUPERLINK_NODE_ID, {}, RecordDict(), dict(flat))
    threads, flower = torch.get_num_threads(), logging.getLogger("flwr")
    level = flower.level
    flower.setLevel(logging.WARNING)  # its lines per round say less than ours
    try:
        server(grid, context)
    finally:
        try:
            grid.close()
        finally:  # also by a second Ctrl-C
            give_back()
            flower.setLevel(level)
            torch.set_num_threads(threads)
    return Path(str(context.state.config_records[RUN_FOLDER_STATE]["path"]))


def _preparation(config: RunConfig) -> Callable[[], None] | None:
    """Return what loads a thread's generator: loading patches torch for all threads meanwhile."""
    if not config.uses_generator:
        return None

    def load() -> None:
        from regl_app.data.prompt_table import run_source
        from regl_app.generator.checkpoint import resolve_generator
        from regl_app.generator.compatibility import check_source
        from regl_app.generator.fitting import fitted
        from regl_app.generator.foundation import shared_foundation
        from regl_app.generator.identity import checkpoint_digest
        from regl_app.generator.limits import check_limits

        local = fitted(config)
        torch.set_num_threads(config.threads)
        source = run_source(local)
        check_source(local, source)
        # Loading does that too, but one may be kept of a run with fewer steps.
        check_limits(resolve_generator(local.generator.path), local.generator)
        digest = checkpoint_digest(local)
        shared_foundation(local.generator, source.concepts, resolve_device(config.device), digest)

    return load
