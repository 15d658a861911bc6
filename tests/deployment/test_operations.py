"""A deployment as its operators see it: doctor, logs, metrics, following a run and ending it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.core.processes import descendants
from regl_app.core.types import Scalar
from regl_app.runs.folder import RunFolder
from regl_app.runs.lock import is_running

Deploy = Callable[..., Any]  # the fixture's Deployment

pytestmark = pytest.mark.timeout(1800)

LINE = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z (.*)$", re.M)


def wait_for(what: str, seen: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        time.sleep(0.25)


def programs(pid: int) -> list[str]:
    """Return the command lines of a process's living descendants."""
    found = []
    for child in descendants(pid):
        try:
            found.append(Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        except FileNotFoundError:
            continue
    return found


def regl(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "regl_app.cli", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


def rounds_trained(log: str) -> int:
    """Return how many rounds a node has trained in."""
    return len(set(re.findall(r"round (\d+) train: answered", log)))


def amid_training(log: str) -> bool:
    """Return whether a node has received what it is to train on, and is not done with it."""
    last = log.rpartition("Receiving: train message")[2]
    return "Received successfully" in last and "train: answered" not in last


def test_a_run_is_examined_followed_and_stopped_in_request(
    deploy: Deploy, small_settings: dict[str, Scalar]
) -> None:
    deployment = deploy("a", "b", "c")
    folder: Path = deployment.folder
    deployment.register("a", "b", "c")
    for index, name in enumerate(("a", "b", "c")):
        deployment.start_node(
            name,
            partition_id=index if name != "c" else 9,  # refused by the app, not by Flower
            num_partitions=2,
            name=f"clinic-{name}",
            state_dir=str(folder / f"state-{name}"),
        )
    examined = regl(
        "doctor", "--superlink", f"127.0.0.1:{deployment.port}",
        "--root-certificates", str(deployment.keys.ca), "--keys", str(deployment.keys.folder),
        "--state-dir", str(folder / "state-a"),
    )  # fmt: skip
    said, _ = examined.communicate(timeout=120)
    assert examined.returncode == 0 and "fail" not in said, said
    assert re.search(r"ok +health +a gate, and a SuperLink answers behind it", said), said
    assert re.search(r"ok +controls +closed", said), said

    settings = {
        **small_settings,
        "method": "fedavg",
        "rounds": 500,
        "train.steps": 800,  # long enough to be stopped amid it
        "server.min-nodes": 2,
        "out-dir": str(folder / "runs"),
        "cache-dir": str(folder / "cache"),
    }
    submitted = deployment.flwr(
        "run", str(Path(__file__).parents[2]), "site", "--format", "json",
        "-c", " ".join(f"{k}={json.dumps(v)}" for k, v in settings.items()),
    )  # fmt: skip
    run_id = str(json.loads(submitted[submitted.index("{") :])["run-id"])
    histories = lambda: list((folder / "runs").glob("*/history.jsonl"))  # noqa: E731
    wait_for("run folder", histories)
    run = RunFolder.open(histories()[0].parent)
    follower = regl("watch", str(run.path))

    # A SuperNode that is stopped while it still receives a request starts a process that waits for
    # the rest in vain, two hours long: Flower's own, and none of ours is loaded in it by then.
    def training_again() -> bool:
        a, b, c = map(deployment.log, "abc")
        # Who was refused at hello is asked that again beside each training, and nobody waits for
        # it for long: the others may be further than in round 2.
        asked = c.split("Receiving: query message")[2:]
        if len(asked) < 2 or "Received successfully" not in asked[-1]:
            return False
        ahead = rounds_trained(b) > rounds_trained(a)
        return rounds_trained(a) > 0 and amid_training(a) and (ahead or amid_training(b))

    def held_amid_training() -> bool:
        """Hold site a, which the others have to wait for, if all have what they were sent."""
        if training_again():
            held.enter_context(deployment.worker("a").held())
            if training_again():
                return True
            held.close()
        return False

    # The command takes seconds: the round that it is to end must not end before.
    with contextlib.ExitStack() as held:
        wait_for("second round", held_amid_training)
        deployment.flwr("stop", run_id, "site")
        wait_for("end", run.read_result, 60)
    result = run.read_result()
    assert result is not None and result.status == "stopped"
    followed, _ = follower.communicate(timeout=60)
    assert follower.returncode == 1
    assert "round 1/500: global accuracy" in followed
    assert "stopped from outside" in followed.splitlines()[-1], followed
    # Where Flower's patience of 5 s was too short, the file is left without its lock.
    wait_for("lock's release", lambda: is_running(run.path) is not True, 30)
    assert 'regl_run_state{state="stopped"} 1.0' in (run.path / "metrics.prom").read_text()

    # Nothing works on: the server's process at once, the clients' after the message at hand.
    def at_work() -> list[str]:
        return [
            command
            for process in deployment.processes.values()
            for command in programs(process.pid)
            if re.search(r"flwr-(server|client)app", command)
        ]

    wait_for("rest", lambda: not at_work(), 120)

    at_node = LINE.findall(deployment.log("a"))
    assert any(line.startswith("INFO clinic-a hello: answered: ") for line in at_node), at_node
    trained = [line for line in at_node if "clinic-a round 2 train: answered: " in line]
    assert trained and re.search(r"\d+ real images, \d+ synthetic images", trained[0]), at_node
    assert any(
        line.startswith("ERROR clinic-c hello: failed: ConfigError: partition-id must be between")
        for line in LINE.findall(deployment.log("c"))
    ), deployment.log("c")
    at_server = LINE.findall(deployment.flwr("log", run_id, "site", "--show"))
    assert any(line.startswith("INFO server round 1 record: round 1/500") for line in at_server)
    metrics = (folder / "state-a" / "metrics.prom").read_text()
    assert re.search(r'regl_node_messages_total\{outcome="ok",phase="train"\} [2-9]', metrics)
