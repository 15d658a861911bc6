"""What ``regl run`` hands to ``flwr run`` is accepted by Flower and is our code alone."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import load_and_validate
from flwr.cli.install import install_from_fab

from regl_app.config import RunConfig, default_flat
from regl_app.core.app_code import PACKAGES, hash_code, own_code_hash
from regl_app.core.app_root import APP_ROOT
from regl_app.core.types import Scalar
from regl_app.flower.engines.app_bundle import build_app_folder, toml_table, write_bundle

ROOT = Path(__file__).resolve().parents[3]


def test_flower_accepts_it_and_it_is_the_running_code(tmp_path: Path) -> None:
    app = build_app_folder(tmp_path / "app")
    config, warnings = load_and_validate(app / "pyproject.toml")
    assert not warnings
    assert config["tool"]["flwr"]["app"]["components"]["clientapp"] == "client_app.main:app"
    assert hash_code(app) == own_code_hash()


def test_the_bundle_unpacks_to_the_same_code(tmp_path: Path) -> None:
    content = build_fab_from_disk(build_app_folder(tmp_path / "app"))
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        bundle.extractall(tmp_path / "unpacked")
    assert hash_code(tmp_path / "unpacked") == own_code_hash()
    assert len(content) < 10 * 1024 * 1024


def test_the_bundle_of_another_checkout_and_another_time_is_the_same(tmp_path: Path) -> None:
    here = write_bundle(tmp_path / "here")
    other = tmp_path / "other" / "place"
    for package in PACKAGES:
        shutil.copytree(APP_ROOT / package, other / package, copy_function=shutil.copyfile)
    for file in other.rglob("*.py"):
        os.utime(file, (86400, 86400))
    script = "from regl_app.flower.engines.app_bundle import *; write_bundle(Path('.'))"
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=other,
        env={**os.environ, "PYTHONPATH": str(other), "TZ": "Asia/Tokyo"},
        check=True,
    )
    assert (other / here.file.name).read_bytes() == here.file.read_bytes()


def test_flower_submits_and_installs_it_under_the_names_that_are_told(tmp_path: Path) -> None:
    made = write_bundle(tmp_path)
    # What `flwr run` sends, as it builds it itself.
    sent = build_fab_from_disk(build_app_folder(tmp_path / "app"))
    assert hashlib.sha256(sent).hexdigest() == made.sha256
    installed = install_from_fab(made.file, tmp_path / "home", skip_prompt=True)
    assert installed == tmp_path / "home" / "apps" / made.installed_as
    assert hash_code(installed) == own_code_hash()


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")
def test_a_plain_flwr_run_bundles_the_same_code_and_nothing_else(tmp_path: Path) -> None:
    checkout, unpacked = tmp_path / "checkout", tmp_path / "unpacked"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, checkout / package)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, checkout)
    for other in ("tests/conftest.py", "docs/a.md", "runs/x/config.json"):
        (checkout / other).parent.mkdir(parents=True)
        (checkout / other).write_text("{}")
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(checkout))) as bundle:
        bundle.extractall(unpacked)
    assert hash_code(unpacked) == hash_code(checkout)
    expected = {*PACKAGES, "pyproject.toml", "README.md", "LICENSE", ".info"}
    assert {path.name for path in unpacked.iterdir()} <= expected
    assert not list(unpacked.rglob("*.safetensors"))


def test_all_keys_travel_with_their_types() -> None:
    odd = 'odd "quoted" ü\\path'
    named: dict[str, Scalar] = {"name": "a", "data.source": "folder", "data.path": odd}
    flat = RunConfig.from_flat(named).to_flat()
    table = tomllib.loads(toml_table(flat))
    assert RunConfig.from_any(table).to_flat() == flat
    assert RunConfig.from_any(tomllib.loads(toml_table(default_flat()))) == RunConfig.from_flat({})
