"""A node whose TLS handshake is cut off: Flower's process stays without work, ours ends."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

Deploy = Callable[..., Any]  # the fixture's Deployment

pytestmark = pytest.mark.timeout(600)


def hang_up(port: int) -> socket.socket:
    """Accept connections and close them, as a full gate does, or a forwarder without its gate."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                listener.accept()[0].close()
            except OSError:  # the test is over
                return

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_a_node_that_gave_its_connection_up_ends_and_says_so(
    deploy: Deploy,
) -> None:
    deployment = deploy("a")
    deployment.register("a")
    command = (
        sys.executable, "-m", "regl_app.flower.deployment.supernode",
        "--root-certificates", str(deployment.keys.ca),
        "--auth-supernode-private-key", str(deployment.keys.node_key("a")),
        "--superlink", f"127.0.0.1:{deployment.port}", "--port", str(deployment.free_port()),
        "--node-config", "partition-id=0 num-partitions=1",
    )  # fmt: skip

    def until(what: str, seen: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not seen():
            assert time.monotonic() < deadline, f"{what}: {deployment.log('a')}"
            time.sleep(0.2)

    node = deployment.start("a", *command)
    until("connection", lambda: "SuperNode ID" in deployment.log("a"))
    gate = deployment.processes.pop("gate")
    gate.terminate()
    gate.wait()
    listener = hang_up(deployment.port)
    until("end", lambda: node.poll() is not None)
    assert node.returncode > 0 and "was given up" in deployment.log("a")
    listener.close()
