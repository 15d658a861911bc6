"""SuperLink and SuperNodes as on real machines: TLS, registered keys, one process per message."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.core.types import Scalar
from regl_app.runs.folder import RunFolder

Deploy = Callable[..., Any]  # the fixture's Deployment

pytestmark = pytest.mark.timeout(1800)


def test_the_default_method_and_scaffolds_state_run_over_three_sites_with_tls_and_keys(
    deploy: Deploy, site_settings: dict[str, Scalar], site_folders: list[Path]
) -> None:
    deployment = deploy("a", "b", "c")
    deployment.register("a", "b", "c")
    for index, name in enumerate(("a", "b", "c")):
        deployment.start_site(index, site_folders[:3], name)
    log = deployment.run(
        **site_settings,
        **{"server.min-nodes": 3, "out-dir": str(deployment.folder / "runs")},
        objective="scaffold",  # keeps tensors at the sites and at the server, and sends some
    )
    run = RunFolder.open(next((deployment.folder / "runs").iterdir()))
    result, facts = run.read_result(), run.read_facts()
    assert result is not None and result.status == "finished", log
    assert run.report.is_file() and run.load_model()
    history = run.read_history()
    assert len(history) == 2 and not any(record.failures for record in history)
    assert sum(map(sum, filter(None, history[0].synthetic_counts or []))) > 0
    # Each node read its own folder, all but a fifth of each to train on.
    assert facts is not None and facts.train_counts is not None
    held = [sum(1 for path in folder.rglob("*.png")) for folder in site_folders[:3]]
    trained = [sum(row) for row in facts.train_counts if row is not None]
    assert trained == [count - round(0.2 * count) for count in held]
    for name in ("a", "b", "c"):
        assert list(deployment.state(name).glob("adapters/*/adapter.json"))
        assert list(deployment.state(name).glob("state/*/*/round-0001.safetensors"))
        images = trained["abc".index(name)]
        assert f" {name} hello: {images} training and" in deployment.log(name)
    # A part of the model may stay at each site as well, on the same nodes.
    out = deployment.folder / "fedrep"
    log = deployment.run(
        **site_settings | {"rounds": 1},
        **{"server.min-nodes": 3, "out-dir": str(out), "method": "fedrep"},
    )
    assert out.is_dir(), log
    run = RunFolder.open(next(out.iterdir()))
    result = run.read_result()
    assert result is not None and result.status == "finished", log
    assert not any(record.failures for record in run.read_history())
    for name in ("a", "b", "c"):
        kept = list(deployment.state(name).glob("state/*/*/round-0001.safetensors"))
        assert len(kept) == 2  # each run's in a folder of its own


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
