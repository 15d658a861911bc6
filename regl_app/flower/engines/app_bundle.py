"""The folder that ``flwr run`` is given: the app's code and a pyproject.toml that describes it.

Built anew for each run from the code that is running, so that it is the same from a checkout, an
editable installation and a wheel (which has no pyproject.toml), and nothing else is bundled.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from regl_app.config import default_flat
from regl_app.core.app_root import APP_ROOT
from regl_app.core.errors import RunError
from regl_app.core.types import Scalar
from regl_app.core.version import __version__
from regl_app.flower.code_hash import PACKAGES

NAME = "regl-app"


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
publisher = "regl"

[tool.flwr.app.components]
serverapp = "server_app.main:app"
clientapp = "client_app.main:app"

[tool.flwr.app.config]
{toml_table(default_flat())}"""
