"""A site's node as docs/systemd/regl-supernode.service holds it, as far as it goes without systemd.

Another user without capabilities, everything read-only but its state and a /tmp of its own, and a
folder of app bundles that is the operator's: it takes part in a run, and runs nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.core.types import Scalar
from regl_app.flower.deployment.credentials import Credentials
from regl_app.flower.deployment.task_guard import CLIENT, OTHERS
from regl_app.flower.engines.app_bundle import write_bundle
from regl_app.generator.checkpoint import generator_digest
from regl_app.runs.folder import RunFolder

pytestmark = pytest.mark.timeout(900)
NOBODY = 65534
BIN = Path(sys.executable).parent


def prepare(deployment: Any, name: str, bundle: Path) -> Path:
    """Make a site's folders as its operator does, with one bundle to run; return where."""
    place: Path = deployment.folder / "site"
    for folder in ("flwr", "bin", "state", "keys/nodes"):
        (place / folder).mkdir(parents=True)
    shutil.copy(deployment.keys.ca, place / "keys")
    key = shutil.copy(deployment.keys.node_key(name), place / "keys" / "nodes")
    for own in (key, place / "state"):
        os.chown(own, NOBODY, NOBODY)
    subprocess.run(
        [BIN / "flwr", "install", bundle],
        env={**deployment.environment, "FLWR_HOME": str(place / "flwr")},
        check=True,
    )
    task = place / "bin" / "regl-task"  # as pip makes it
    task.write_text(
        f"#!{sys.executable}\nfrom regl_app.flower.deployment.task_guard import main\nmain()\n"
    )
    task.chmod(0o755)
    for program in (CLIENT, *OTHERS):
        (place / "bin" / program).symlink_to("regl-task")
    (place / "bin" / "flower-superexec").symlink_to(BIN / "flower-superexec")
    return place


def start_confined(
    deployment: Any, name: str, beginning: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start a node behind ``beginning``, with the environment and paths of the unit."""
    start = deployment.start
    environment = [
        "env", "FLWR_HOME=/srv/regl/flwr", "HOME=/srv/regl/state", "TMPDIR=/tmp",
        "PATH=/srv/regl/bin:/usr/bin:/bin",
    ]  # fmt: skip

    def confined(name: str, program: str, *arguments: str) -> Any:
        return start(
            name,
            *(shutil.which(beginning[0]), *beginning[1:], *environment),
            *(str(BIN / program), *arguments),
        )

    with monkeypatch.context() as patch:
        patch.setattr(deployment, "start", confined)
        patch.setattr(deployment, "keys", Credentials(Path("/srv/regl/keys")))
        deployment.start_node(
            name,
            partition_id=0,
            num_partitions=1,
            name=name,
            data_dir="/srv/regl/images",
            data_root="/srv/regl/images:/srv/regl/sd",
            state_dir="/srv/regl/state",
        )


def submit_foreign(deployment: Any, name: str, bundle: bytes, script: str) -> Any:
    """Submit a bundle past Flower's own command, and return the process that follows it."""
    file = deployment.folder / f"{name}.fab"
    file.write_bytes(bundle)
    return deployment.start(name, sys.executable, "-c", script, str(file), "site")


def test_a_confined_node_refuses_foreign_bundles_stays_up_and_takes_part_in_a_run(
    deploy: Callable[..., Any],
    confined: Callable[..., list[str]],
    bundle_of: Callable[..., bytes],
    foreign_code: dict[str, str],
    submit_script: str,
    site_settings: dict[str, Scalar],
    site_folders: list[Path],
    quick_generator: dict[str, Scalar],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployment = deploy("a")
    ours = write_bundle(deployment.folder / "bundles")
    deployment.register("a")
    place = prepare(deployment, "a", ours.file)
    # One that is not bundled, where the node's user may read and the server has none.
    checkpoint = Path(shutil.copytree(quick_generator["generator.path"], place / "sd"))
    for path in (checkpoint, *checkpoint.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    folders = {
        "/srv/regl/images": (site_folders[0], False),
        "/srv/regl/state": (place / "state", True),
        "/srv/regl/flwr": (place / "flwr", False),
        "/srv/regl/bin": (place / "bin", False),
        "/srv/regl/keys": (place / "keys", False),
        "/srv/regl/sd": (checkpoint, False),
    }
    start_confined(deployment, "a", confined(folders), monkeypatch)
    node = deployment.processes["a"]

    foreign = {
        "another": bundle_of("any", "any", "1.0", foreign_code),
        # Unpacked into the node's state, which it can write: two steps up from flwr/apps.
        "leading-out": bundle_of("", "", "/../state/evil", foreign_code),
    }
    following = {
        name: submit_foreign(deployment, name, bundle, submit_script)
        for name, bundle in foreign.items()
    }
    for name, process in following.items():
        assert process.wait(timeout=300) == 0, deployment.log(name)
    assert "Read-only file system: '/srv/regl/flwr/apps/any.any.1.0." in deployment.log("another")
    assert "this node runs no code from /srv/regl/flwr/apps/../" in deployment.log("leading-out")
    # It was unpacked there: without the guard it would have run.
    assert list((place / "state").glob("evil.*/any/client.py"))
    assert node.poll() is None and "FOREIGN CODE RUNS" not in deployment.log("a")

    settings = {**site_settings, **quick_generator, "rounds": 1, "server.min-nodes": 1}
    settings["generator.path"] = "/srv/regl/sd"
    settings |= {"out-dir": str(deployment.folder / "runs")}
    pairs = [f"{key}={str(value).lower()}" for key, value in settings.items()]
    run = deployment.start("run", "regl", "run", "--superlink", "site", *pairs)
    assert run.wait(timeout=600) == 0, deployment.log("run") + deployment.log("a")
    assert f"bundle: {ours.file.name}" in deployment.log("run")
    history = RunFolder.open(next((deployment.folder / "runs").iterdir())).read_history()
    assert len(history) == 1 and not history[0].failures
    (adapter,) = (place / "state").glob("adapters/*/adapter.json")
    assert generator_digest(checkpoint) in adapter.read_text(encoding="utf-8")
    assert history[0].clients[0]["generated"] > 0
    # The warm worker served it, and no byte of the bundle was changed or compiled in place.
    assert "this message is served without" not in deployment.log("a")
    installed = place / "flwr" / "apps" / ours.installed_as
    assert installed.is_dir() and not list(installed.rglob("__pycache__"))
    assert {path.stat().st_uid for path in (place / "state").rglob("*")} == {NOBODY}
