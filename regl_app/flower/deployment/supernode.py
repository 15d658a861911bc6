"""Flower's SuperNode, with two faults of Flower 1.41 mended.

* It tries again whatever happens to a connection, but for the TLS handshake: where that is cut off,
  not answered for 30 s, or the certificate has expired, it gives up and signs off. Its process
  stays, with nothing left to do, and no service manager sees that it has ended. Ours ends.
* It starts a process per message, and takes one that has not come up within 30 s for lost: it
  starts another beside it, without end, and on a busy machine each makes the others slower. Ours
  waits longer.
"""

from __future__ import annotations

from datetime import timedelta

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.supercore.corestate.in_memory_corestate import InMemoryCoreState
from flwr.supercore.exit import ExitCode, flwr_exit
from flwr.supernode.cli.flower_supernode import flower_supernode

START_SECONDS = 300.0
"""How long a message's process may take until it reports; Flower's own 30 s included."""


def main() -> None:
    """Run ``flower-supernode`` with this process's arguments; never returns."""
    _wait_for_starts()
    flower_supernode()
    flwr_exit(
        ExitCode.SUPERNODE_CONNECTION_ERROR,
        "The connection to the SuperLink was given up (see above). Start this SuperNode again.",
    )


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


if __name__ == "__main__":
    main()
