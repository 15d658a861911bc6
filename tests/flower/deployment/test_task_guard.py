"""A node's process runs the operator's bundles only, whatever folder a hostile one names."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from regl_app.core.app_root import APP_ROOT

NOBODY = 65534
pytestmark = pytest.mark.timeout(300)

APP = """from pathlib import Path
from flwr.clientapp import ClientApp
app = ClientApp()
print("RUNS", Path(__file__).parent.parent.name)
"""

# What `flwr-clientapp` does with a bundle, and with what the SuperLink says of it.
NODE = """import json, sys
from pathlib import Path
from flwr.cli.install import install_from_fab
from flwr.clientapp.utils import get_load_client_app_fn
if {guarded}:
    from regl_app.flower.deployment.task_guard import AllowedCodeOnly
    sys.meta_path.insert(0, AllowedCodeOnly(Path("/srv/home/apps")))
try:
    install_from_fab(Path("/srv/open/bundle.fab").read_bytes(), skip_prompt=True)
    get_load_client_app_fn("", None, True)(*{names!r})
except BaseException as error:
    print("REFUSED", type(error).__name__, error)
import tomllib, http.server  # an error can still be sent
"""


@dataclass
class Site:
    """A node's home whose ``apps`` is root's, and a folder that the node can write."""

    folder: Path
    confined: Callable[..., list[str]]
    bundle_of: Callable[..., bytes]

    def bundle(
        self, version: str, publisher: str = "ours", name: str = "app", code: str = APP
    ) -> bytes:
        return self.bundle_of(publisher, name, version, {"any/client.py": code})

    @property
    def apps(self) -> Path:
        return self.folder / "home" / "apps"

    @property
    def open(self) -> Path:
        return self.folder / "open"

    def allow(self, bundle: bytes, place: Path) -> None:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            archive.extractall(place)

    def run(
        self, bundle: bytes, fab_id: str, version: str, *, said: str = "", guarded: bool = True
    ) -> str:
        """Return what a node says to a bundle, ``said`` being the SuperLink's word for its hash."""
        (self.open / "bundle.fab").write_bytes(bundle)
        names = (fab_id, version, said or hashlib.sha256(bundle).hexdigest())
        script = NODE.format(guarded=guarded, names=names)
        # Writable mounts: what keeps the node from home is its owner alone.
        folders = {"/srv/home": (self.apps.parent, True), "/srv/open": (self.open, True)}
        done = subprocess.run(
            [*self.confined(folders), sys.executable, "-c", script],
            env={
                **os.environ,
                "FLWR_HOME": "/srv/home",
                "TMPDIR": "/srv/open",
                "PYTHONPATH": str(APP_ROOT),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


@pytest.fixture
def site(
    tmp_path: Path, confined: Callable[..., list[str]], bundle_of: Callable[..., bytes]
) -> Site:
    site = Site(tmp_path, confined, bundle_of)
    site.apps.mkdir(parents=True)
    site.open.mkdir()
    os.chown(site.open, NOBODY, NOBODY)
    return site


OUT = "/../open/evil"
"""A version that leads from ``apps`` to the folder that the node can write."""


def test_an_allowed_bundle_runs_and_another_cannot_be_unpacked(site: Site) -> None:
    ours, theirs = site.bundle("1.0"), site.bundle("1.1")
    folder = f"ours.app.1.0.{hashlib.sha256(ours).hexdigest()[:8]}"
    site.allow(ours, site.apps / folder)
    assert f"RUNS {folder}" in site.run(ours, "ours/app", "1.0")
    answer = site.run(theirs, "ours/app", "1.1")
    assert "REFUSED PermissionError" in answer and "RUNS" not in answer
    assert [path.name for path in site.apps.iterdir()] == [folder]


@pytest.mark.parametrize("guarded", [True, False])
def test_a_bundle_whose_name_leads_out_of_the_folder_runs_only_without_the_guard(
    site: Site, guarded: bool
) -> None:
    evil = site.bundle(OUT, "", "")
    answer = site.run(evil, "/", OUT, guarded=guarded)
    # Without: Flower 1.41's fault. Should it be mended, the guard has one thing less to do.
    assert ("RUNS evil." in answer) is not guarded
    assert ("REFUSED ImportError any: this node runs no code from" in answer) is guarded


def test_a_superlink_cannot_name_another_folder_for_an_allowed_bundle(site: Site) -> None:
    ours = site.bundle("1.0")
    folder = f"ours.app.1.0.{hashlib.sha256(ours).hexdigest()[:8]}"
    site.allow(ours, site.apps / folder)
    planted = [site.open / "evil.12345678", site.open / "planted"]
    for place in planted:
        site.allow(site.bundle("1", "x", "y"), place)
    for entry in site.open.rglob("*"):
        os.chown(entry, NOBODY, NOBODY)
    lies = [
        ("/", OUT, "1234567890"),
        # Through a folder that is there; by the hash.
        ("ours/app", f"{folder[9:]}/../../../open/evil", "1234567890"),
        ("/", "/../open/", "/planted"),
    ]
    for fab_id, version, said in lies:
        assert "REFUSED ImportError" in site.run(ours, fab_id, version, said=said)
        assert "RUNS" in site.run(ours, fab_id, version, said=said, guarded=False)


def test_the_first_eight_digits_of_an_allowed_bundle_give_that_bundles_code(site: Site) -> None:
    theirs = site.bundle("1.0", code=APP.replace("RUNS", "EVIL"))
    # As if the operator's own had them.
    folder = f"ours.app.1.0.{hashlib.sha256(theirs).hexdigest()[:8]}"
    site.allow(site.bundle("1.0"), site.apps / folder)
    answer = site.run(theirs, "ours/app", "1.0")
    assert f"RUNS {folder}" in answer and "EVIL" not in answer


def test_links_and_folders_that_the_node_can_write_are_refused(site: Site) -> None:
    bundle = site.bundle("1.0")
    name = f"ours.app.1.0.{hashlib.sha256(bundle).hexdigest()[:8]}"
    site.allow(bundle, site.open / name)
    (site.apps / name).symlink_to(f"/srv/open/{name}")
    assert "no bundle that the operator put" in site.run(bundle, "ours/app", "1.0")
    (site.apps / name).unlink()
    site.allow(bundle, site.apps / name)
    code = site.apps / name / "any" / "client.py"
    code.chmod(0o666)
    assert "own user could change" in site.run(bundle, "ours/app", "1.0")
    os.chown(code, NOBODY, NOBODY)
    code.chmod(0o444)  # its owner could change that
    assert "own user could change" in site.run(bundle, "ours/app", "1.0")
    os.chown(code, 0, 0)
    site.apps.chmod(0o777)
    assert "own user could change" in site.run(bundle, "ours/app", "1.0")
    site.apps.chmod(0o755)
    assert "RUNS" in site.run(bundle, "ours/app", "1.0")


@pytest.fixture
def called(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what calls the guard's program by another name."""

    def call(name: str, *arguments: str, home: str = "/") -> subprocess.CompletedProcess[str]:
        program = tmp_path / name
        program.write_text(
            f"#!{sys.executable}\nfrom regl_app.flower.deployment.task_guard import main\nmain()\n"
        )
        program.chmod(0o755)
        return subprocess.run(
            [program, *arguments],
            env={**os.environ, "FLWR_HOME": home, "PYTHONPATH": str(APP_ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_the_program_is_flowers_own_for_clients(
    called: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = called("flwr-clientapp", "--help")
    assert done.returncode == 0 and "Run a Flower ClientApp" in done.stdout


@pytest.mark.parametrize("name", ["flwr-agentapp", "flwr-serverapp", "flwr-model", "regl-task"])
def test_no_other_kind_of_task_is_run(
    called: Callable[..., subprocess.CompletedProcess[str]], name: str
) -> None:
    done = called(name, "--help")
    assert done.returncode == 1 and "this node runs ClientApps only" in done.stderr


def test_a_forgotten_home_and_dependencies_of_a_bundle_are_refused(
    called: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert "FLWR_HOME has to name" in called("flwr-clientapp", home="").stderr
    done = called("flwr-clientapp", "--allow-runtime-dependency-installation")
    assert done.returncode == 1 and "nobody allowed" in done.stderr


def test_all_programs_that_a_supernode_starts_are_known() -> None:
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

    from regl_app.flower.deployment.task_guard import CLIENT, OTHERS

    assert {CLIENT, *OTHERS} == set(TASK_TYPE_TO_COMMAND.values())
