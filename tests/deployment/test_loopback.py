"""Who a SuperLink as on a real machine lets in: registered keys, by TLS."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

Deploy = Callable[..., Any]  # the fixture's Deployment

pytestmark = pytest.mark.timeout(1800)


def refused(deployment: Any, name: str) -> str:
    """Return the log of a node that ended by itself, and not in good order."""
    process = deployment.processes[name]
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert process.poll(), f"not refused: {deployment.log(name)}"
    return deployment.log(name)


def test_a_node_without_a_registered_key_or_without_tls_is_refused(
    deploy: Deploy,
) -> None:
    deployment = deploy("known", "unknown")
    deployment.register("known")
    deployment.start_node("unknown", partition_id=0, num_partitions=2)
    assert "Failed to activate SuperNode" in refused(deployment, "unknown")
    plain = (
        "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{deployment.port}",
        "--max-retries", "1", "--port", str(deployment.free_port()),
        "--node-config", "partition-id=0 num-partitions=2",
    )  # fmt: skip
    key = str(deployment.keys.node_key("known"))
    deployment.start("plain", *plain, "--auth-supernode-private-key", key)
    assert "TLS is not enabled" in refused(deployment, "plain")
    deployment.start("nameless", *plain)
    assert "Failed to initialize the connection" in refused(deployment, "nameless")
