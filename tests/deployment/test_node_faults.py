"""The default method over four sites with TLS and keys, SuperNodes killed amid their work.

The others go on, and nothing is lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.core.processes import wait_until_gone
from regl_app.core.types import Scalar
from regl_app.runs.folder import RunFolder

Deploy = Callable[..., Any]  # the fixture's Deployment
TIMEOUT = 600.0  # seconds
# Seconds until a killed node is started again. Flower takes a node for alive until two heartbeats
# of 30 s are missed: it refuses it until then, and tells the server of it only from then on.
RESTART = 66.0
SITES = ("tuning", "generation", "training", "well")

pytestmark = pytest.mark.timeout(1800)


def is_tuning(log: str, state: Path) -> bool:
    # How many steps are done is said every few seconds only, by a fast machine never.
    begun = " round 1 adapt: generator loaded" in log
    return begun and not list(state.glob("adapters/*/adapter.json"))


def is_generating(_log: str, state: Path) -> bool:
    probing = (state / "images" / ".probe.lock").exists()  # what is made after its own images
    return bool(list(state.glob("images/??/*.safetensors"))) and not probing


def is_training(log: str, _state: Path) -> bool:
    # Said once all images are made, those of the probe set too.
    return re.search(r" round 1 \w+: \d+ real images?, adapter", log) is not None


def test_killed_nodes_rejoin_and_find_what_they_had_made(
    deploy: Deploy, site_settings: dict[str, Scalar], site_folders: list[Path]
) -> None:
    deployment = deploy(*SITES)
    deployment.register(*SITES)
    for index, name in enumerate(SITES):
        deployment.start_site(index, site_folders, name)
    settings = site_settings | {
        "server.min-nodes": 4,
        "server.timeout": TIMEOUT,
        "out-dir": str(deployment.folder / "runs"),
        # Long enough to be caught at, short enough to wait for.
        "lora.steps": 120,
        "generator.batch-size": 2,
        "generator.steps": 10,
        "train.steps": 700,
        "supplement.decay": 0.0,
        # Keeps tensors at the sites and at the server, and sends some.
        "objective": "scaffold",
    }
    running = deployment.submit(**settings)
    moments = {"tuning": is_tuning, "generation": is_generating, "training": is_training}
    killed: dict[str, float] = {}
    while running.poll() is None:
        for name, is_moment in list(moments.items()):
            if is_moment(deployment.log(name), deployment.state(name)):
                if name != "generation":  # what it computes from now on is just that
                    deployment.worker(name).until_it_computed()
                del moments[name]
                deployment.kill(name)
                killed[name] = time.monotonic()
        for name, moment in list(killed.items()):
            if time.monotonic() - moment > RESTART:
                del killed[name]
                deployment.start_site(SITES.index(name), site_folders, name)
        time.sleep(0.01)
    assert not moments, f"never seen: {list(moments)}\n{deployment.log('run')}"
    assert wait_until_gone(deployment.orphans, 10), "something outlived its SuperNode"
    (folder,) = (deployment.folder / "runs").iterdir()
    run = RunFolder.open(folder)
    result, history = run.read_result(), run.read_history()
    assert result is not None and result.status == "finished", deployment.log("run")
    first, second = history
    # The round went on without them, and ended in time.
    assert list(first.clients) == [SITES.index("well")]
    assert len(first.failures) == 3, first.failures
    assert first.seconds.server["wait_train"] < TIMEOUT
    # They are back, and go on from what they had made.
    assert list(second.clients) == [0, 1, 2, 3] and not second.failures
    tuning, generation, training, _ = (second.clients[client] for client in range(4))
    assert not tuning["adapter_cached"]
    assert generation["adapter_cached"] and generation["reused"]
    assert training["adapter_cached"] and training["reused"] and not training["generated"]
    # What a run leaves, here and at the sites.
    facts = run.read_facts()
    assert run.report.is_file() and run.load_model()
    assert sum(map(sum, filter(None, second.synthetic_counts or []))) > 0
    # Of the last round nothing is kept; in the first one this site alone came to its end.
    assert list(deployment.state("well").glob("state/*/*/round-0001.safetensors"))
    # Each node read its own folder, all but a fifth of each to train on.
    assert facts is not None and facts.train_counts is not None
    held = [sum(1 for path in site.rglob("*.png")) for site in site_folders]
    trained = [sum(row) for row in facts.train_counts if row is not None]
    assert trained == [count - round(0.2 * count) for count in held]
    for name, images in zip(SITES, trained, strict=True):
        assert list(deployment.state(name).glob("adapters/*/adapter.json"))
        assert f" {name} hello: {images} training and" in deployment.log(name)
