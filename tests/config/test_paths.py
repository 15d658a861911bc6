"""Relative paths refer to where the user was, whatever Flower makes the working directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.config.paths import START_DIR, cache_dir, start_dir, with_absolute_paths
from regl_app.flower.engines.workdir import RAY_SETTINGS, enter_bundle


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that it is restored to absent even where the code under test sets it.
    monkeypatch.setenv(START_DIR, "x")
    monkeypatch.delenv(START_DIR)
    for key in RAY_SETTINGS:
        monkeypatch.setenv(key, "1")
    monkeypatch.chdir(tmp_path)


def test_a_simulation_process_moves_into_the_bundle_and_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    monkeypatch.setattr(sys, "argv", ["/venv/bin/flwr-simulation", "--x"])
    enter_bundle(bundle)
    enter_bundle(bundle)  # by the other app's import
    assert Path.cwd() == bundle
    assert start_dir() == tmp_path
    assert os.environ[START_DIR] == str(tmp_path)


def test_any_other_process_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/venv/bin/regl"])
    enter_bundle(tmp_path / "absent")
    assert Path.cwd() == tmp_path
    assert START_DIR not in os.environ
    assert start_dir() == tmp_path


def test_local_paths_become_absolute_and_hub_ids_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    flat = {"out-dir": "runs", "cache-dir": "cache", "data.source": "hub", "data.path": "a/b"}
    config = with_absolute_paths(RunConfig.from_flat(flat | {"generator.path": "mine"}))
    assert config.out_dir == str(tmp_path / "runs")
    assert config.cache_dir == str(tmp_path / "cache")
    assert config.data.path == "a/b"
    assert config.generator.path == str(tmp_path / "mine")
    folder = RunConfig.from_flat({"data.source": "folder", "data.path": "pictures"})
    assert with_absolute_paths(folder).data.path == str(tmp_path / "pictures")
    assert with_absolute_paths(folder).generator.path == "bundled"


def test_the_cache_is_the_configured_one_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir(RunConfig.from_flat({})) == tmp_path / "xdg" / "regl"
    assert cache_dir(RunConfig.from_flat({"cache-dir": "here"})) == tmp_path / "here"


def test_weights_are_a_file_or_an_id_of_the_hub(tmp_path: Path) -> None:
    def resolved(weights: str) -> str:
        config = RunConfig.from_flat({"model.name": "timm:resnet18", "model.weights": weights})
        return with_absolute_paths(config).model.weights

    (tmp_path / "here").touch()
    assert resolved("start.safetensors") == str(tmp_path / "start.safetensors")
    assert resolved("here") == str(tmp_path / "here")
    assert resolved("timm/resnet18.a1_in1k") == "timm/resnet18.a1_in1k"
    (tmp_path / "hub").mkdir()
    assert [resolved(word) for word in ("", "hub")] == ["", "hub"]
