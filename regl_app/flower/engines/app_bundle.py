"""The folder that ``flwr run`` is given: the app's code and a pyproject.toml that describes it.

Built anew for each run from the code that is running, so that it is the same from a checkout, an
editable installation and a wheel (which has no pyproject.toml), and nothing else is bundled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from regl_app.config import default_flat
from regl_app.core.app_code import PACKAGES
from regl_app.core.app_root import APP_ROOT
from regl_app.core.errors import RunError
from regl_app.core.files import storing
from regl_app.core.scratch import scratch_folder
from regl_app.core.types import Scalar
from regl_app.core.version import __version__
from regl_app.flower.engines.command import find_program

NAME, PUBLISHER = "regl-app", "regl"
SCRATCH_MEGABYTES = 20


@dataclass(frozen=True)
class Bundle:
    """An app bundle in a file: what ``flwr run`` sends, and ``flwr install`` unpacks."""

    file: Path

    @property
    def sha256(self) -> str:
        """Return the digest by which Flower knows it, in 64 hex digits."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    @property
    def installed_as(self) -> str:
        """Return the name of its folder in ``$FLWR_HOME/apps``."""
        return f"{PUBLISHER}.{NAME}.{__version__}.{self.sha256[:8]}"


def write_bundle(folder: Path) -> Bundle:
    """Write the bundle that ``regl run --superlink`` submits to ``folder``, named as Flower wants.

    The same code, dependencies and zlib give the same bytes, wherever and whenever it is built.

    Raises:
        RunError: ``flwr build`` refused.
    """
    with scratch_folder("regl-app-", SCRATCH_MEGABYTES) as scratch:
        app = build_app_folder(scratch / "app")
        done = subprocess.run(
            [find_program("flwr"), "build", "--app", str(app)],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        built = list(scratch.glob("*.fab"))
        if done.returncode or len(built) != 1:
            raise RunError(f"flwr build failed: {(done.stderr or done.stdout).strip()[-2000:]}")
        folder.mkdir(parents=True, exist_ok=True)
        with storing(folder):
            return Bundle(Path(shutil.copyfile(built[0], folder / built[0].name)))


def build_app_folder(target: Path) -> Path:
    """Write the app to the empty folder ``target`` and return it.

    Raises:
        RunError: the apps' packages are not installed beside ``regl_app``.
    """
    for package in PACKAGES:
        if not (APP_ROOT / package / "__init__.py").is_file():
            raise RunError(f"{package} is not installed in {APP_ROOT} (pip install {NAME})")
        for file in (APP_ROOT / package).rglob("*.py"):
            copy = target / file.relative_to(APP_ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    (target / "pyproject.toml").write_text(_pyproject(), encoding="utf-8")
    return target


def toml_table(values: dict[str, Scalar]) -> str:
    """Return ``values`` as TOML lines; keys may be dotted."""
    # JSON's texts, numbers and booleans are TOML's.
    return "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()
    )


def _pyproject() -> str:
    try:
        dependencies = [item for item in requires(NAME) or [] if "extra ==" not in item]
    except PackageNotFoundError:
        dependencies = []
    return f"""[project]
name = "{NAME}"
version = "{__version__}"
description = "ReGL and FedDPD"
license = "Apache-2.0"
requires-python = ">=3.11,<3.15"
dependencies = {json.dumps(dependencies)}

[tool.flwr.app]
publisher = "{PUBLISHER}"

[tool.flwr.app.components]
serverapp = "server_app.main:app"
clientapp = "client_app.main:app"

[tool.flwr.app.config]
{toml_table(default_flat())}"""
