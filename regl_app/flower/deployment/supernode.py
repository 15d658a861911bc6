"""Flower's SuperNode, with four faults of Flower 1.41 mended.

* It tries again whatever happens to a connection, but for the TLS handshake: where that is cut off,
  not answered for 30 s, or the certificate has expired, it gives up and signs off. Its process
  stays, with nothing left to do, and no service manager sees that it has ended. So it does after an
  error of its own. Ours ends.
* It starts ``flower-superexec``, which starts a process per message, and never looks at it again:
  without it it takes one message and waits for ever. Ours ends.
* It starts a process per message, and takes one that has not come up within 30 s for lost: it
  starts another beside it, without end, and on a busy machine each makes the others slower. Ours
  waits longer.
* It sends the replies that there are, once per message. Where a run ends while one of its messages
  is being received, as when the SuperLink was killed, its process goes on and replies all the same:
  that is sent in place of the next message's reply, which waits for a message that may never come.
  Ours ends that process, and sends the reply to what it received.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from datetime import timedelta
from logging import ERROR
from types import SimpleNamespace
from typing import Any

from flwr.app import Message, Metadata
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, SubStatus
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore import log
from flwr.supercore.corestate.in_memory_corestate import InMemoryCoreState
from flwr.supercore.exit import ExitCode, add_exit_handler, flwr_exit
from flwr.supernode import start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.nodestate import NodeState

Receive = Callable[[], tuple[Message, ObjectTree] | None]
Send = Callable[..., tuple[set[str], str]]

START_SECONDS = 300.0
"""How long a message's process may take until it reports; Flower's own 30 s included."""
_GRACE_SECONDS = 2.0
"""Where all of a service's processes are told to end at once, the superexec may be the first."""


def main() -> None:
    """Run ``flower-supernode`` with this process's arguments; never returns."""
    _wait_for_starts()
    _answer_what_was_asked()
    _end_with_superexec()
    try:
        flower_supernode()
    except Exception as error:
        log(ERROR, "the SuperNode's own error:", exc_info=error)
        flwr_exit(
            ExitCode.SUPERNODE_CONNECTION_ERROR,
            f"It ends of {type(error).__name__} (see above). Mend what it names, if anything. "
            "Start this SuperNode again.",
        )
    flwr_exit(
        ExitCode.SUPERNODE_CONNECTION_ERROR,
        "The connection to the SuperLink was given up (see above). Start this SuperNode again.",
    )


def _end_with_superexec() -> None:
    """End this process, exit status 1, when the program that Flower starts beside it has ended."""
    started: list[subprocess.Popen[bytes]] = []
    ending = threading.Event()
    add_exit_handler(ending.set, run_before_force_exit=True)

    def end(*_: object) -> None:
        status = started[0].returncode
        how = f"exit status {status}" if status >= 0 else f"killed by signal {-status}"
        flwr_exit(
            ExitCode.TASK_PROC_EXCEPTION,
            f"flower-superexec has ended ({how}): no message would be answered. "
            "Start this SuperNode again.",
        )

    def watch() -> None:
        started[0].wait()
        main_thread = threading.main_thread().ident
        if not ending.wait(_GRACE_SECONDS) and main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGUSR1)  # Flower ends in that thread alone

    def start(command: list[str]) -> None:
        started.append(subprocess.Popen(command))
        threading.Thread(target=watch, name="end-with-superexec", daemon=True).start()

    signal.signal(signal.SIGUSR1, end)
    start_client_internal.subprocess = SimpleNamespace(Popen=start)  # type: ignore[assignment, attr-defined]


def _wait_for_starts() -> None:
    """Let what a node remembers of its processes give each ``START_SECONDS`` to come up."""
    claim = InMemoryCoreState.claim_task

    def claim_task(self: InMemoryCoreState, task_id: int) -> str | None:
        token = claim(self, task_id)
        with self.lock_task_store:
            if token is not None and (record := self.task_token_store.get(task_id)) is not None:
                record.active_until += timedelta(seconds=START_SECONDS - HEARTBEAT_DEFAULT_INTERVAL)
        return token

    InMemoryCoreState.claim_task = claim_task  # type: ignore[method-assign]


def _answer_what_was_asked() -> None:
    """Let nothing of an earlier message be taken for the reply to the one at hand."""
    pull_one, push_all = (
        start_client_internal._pull_and_store_message,
        start_client_internal._push_messages,
    )
    asked: list[Message] = []  # none, or that one

    def pull(*, state: NodeState, receive: Receive, **more: Any) -> int | None:
        def noted() -> tuple[Message, ObjectTree] | None:
            if (received := receive()) is not None:
                asked.append(received[0])
            return received

        asked.clear()
        run_id = pull_one(state=state, receive=noted, **more)
        if run_id is None and asked:
            _drop(state, asked.pop().metadata)
        return run_id

    def push(*, send: Send, **more: Any) -> None:
        answered: set[str] = set()

        def noted(message: Message, *about: Any) -> tuple[set[str], str]:
            answered.add(message.metadata.reply_to_message_id)
            return send(message, *about)

        while any(message.metadata.message_id not in answered for message in asked):
            push_all(send=noted, **more)

    start_client_internal._pull_and_store_message = pull  # type: ignore[assignment]
    start_client_internal._push_messages = push  # type: ignore[assignment]


def _drop(state: NodeState, about: Metadata) -> None:
    """Forget what came of a message that could not be received, and whoever is at work on it."""
    for task in state.get_tasks(run_ids=[about.run_id]):
        state.finish_task(task.task_id, SubStatus.STOPPED, "its message could not be received")
    replies = state.get_messages_legacy(run_ids=[about.run_id])
    gone = [about.message_id, *(each.metadata.message_id for each in replies)]
    state.delete_messages(message_ids=gone)
    for name in gone:  # not the whole run's: a reply that arrives at this moment keeps its own
        state.object_store.delete(name)


if __name__ == "__main__":
    main()
