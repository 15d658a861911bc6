"""Relative paths refer to where the user was, whatever Flower makes the working directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from regl_app.config import RunConfig, paths
from regl_app.config.paths import cache_dir, refuse_unwritable, with_absolute_paths
from regl_app.core.errors import StorageError
from regl_app.core.start_dir import START_DIR, start_dir
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


def test_an_image_encoder_is_a_folder_or_a_hub_id_or_a_word(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for given, expected in (("clip", str(tmp_path / "clip")), ("a/b", "a/b"), ("auto", "auto")):
        config = with_absolute_paths(RunConfig.from_flat({"generator.image-encoder": given}))
        assert config.generator.image_encoder == expected
    shown = {"generator.ip-adapter": "ip.safetensors", "generator.image-encoder": "a/b"}
    config = with_absolute_paths(RunConfig.from_flat(shown))
    assert config.generator.ip_adapter == str(tmp_path / "ip.safetensors")
    assert with_absolute_paths(RunConfig.from_flat({})).generator.ip_adapter == ""


def test_the_cache_is_the_configured_one_or_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir(RunConfig.from_flat({})) == tmp_path / "xdg" / "regl"
    assert cache_dir(RunConfig.from_flat({"cache-dir": "here"})) == tmp_path / "here"


def test_the_file_of_inception_is_a_path_and_the_words_are_none(tmp_path: Path) -> None:
    for given, expected in (
        ("inception.safetensors", str(tmp_path / "inception.safetensors")),
        ("classifier", "classifier"),
        ("torch-fidelity", "torch-fidelity"),
        ("none", "none"),
    ):
        config = with_absolute_paths(RunConfig.from_flat({"supplement.distance": given}))
        assert config.supplement.distance == expected


@pytest.mark.parametrize("home", ["a file", "nowhere"])
def test_a_cache_that_cannot_be_written_is_among_the_temporary_files(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home == "a file":
        (tmp_path / "home").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
    else:  # a user that the system does not know, as in some containers

        def unknown() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", unknown)
    instead = tmp_path / f"regl-cache-{os.getuid()}"
    paths._tell_once.cache_clear()
    assert [cache_dir(RunConfig()) for _ in range(2)] == [instead] * 2
    assert instead.stat().st_mode & 0o777 == 0o700
    (told,) = caplog.messages
    assert f"cannot be written: adapters and images are kept in {instead}" in told
    instead.chmod(0o777)
    with pytest.raises(StorageError, match="not a folder of this user alone"):
        cache_dir(RunConfig())


def test_where_a_run_writes_is_looked_at_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    inside = str(tmp_path / "file" / "x")
    refuse_unwritable(RunConfig.from_flat({"out-dir": "runs/new/one"}), keeps=True)
    unused = RunConfig.from_flat({"method": "fedavg", "cache-dir": inside})
    refuse_unwritable(unused, keeps=False)
    sites = unused.updated({"data.source": "site", "data.classes": "cat,dog"})
    for config, keeps in ((unused, True), (sites, False)):
        with pytest.raises(StorageError, match=r"^cache-dir='.*' cannot be written"):
            refuse_unwritable(config, keeps=keeps)
    for key in ("out-dir", "cache-dir"):
        with pytest.raises(StorageError, match=rf"^{key}='.*' cannot be written \(give another"):
            refuse_unwritable(RunConfig.from_flat({key: inside}), keeps=False)


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
