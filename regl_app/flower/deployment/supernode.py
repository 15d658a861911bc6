"""Flower's SuperNode, ending when it has given its connection up, so that it is started again.

Flower 1.41 tries again whatever happens to a connection, but for the TLS handshake: where that is
cut off, not answered for 30 s, or the certificate has expired, it gives up and signs off. Its
process stays, with nothing left to do, and no service manager sees that it has ended.
"""

from __future__ import annotations

from flwr.supercore.exit import ExitCode, flwr_exit
from flwr.supernode.cli.flower_supernode import flower_supernode


def main() -> None:
    """Run ``flower-supernode`` with this process's arguments; never returns."""
    flower_supernode()
    flwr_exit(
        ExitCode.SUPERNODE_CONNECTION_ERROR,
        "The connection to the SuperLink was given up (see above). Start this SuperNode again.",
    )


if __name__ == "__main__":
    main()
