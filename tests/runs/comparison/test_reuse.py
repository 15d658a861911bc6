"""A finished run is reused as long as the pictures are those that it saw."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regl_app.config import RunConfig, named_code
from regl_app.config.sections import ModelConfig
from regl_app.core.tensor_files import save_weights
from regl_app.core.types import Scalar
from regl_app.data.run_files import RunFiles
from regl_app.flower.engines.in_process import run_in_process
from regl_app.learning.models.build import build_model
from regl_app.runs.comparison.compare import compare
from regl_app.runs.comparison.outcome import Files, finished_runs
from regl_app.runs.comparison.tables import Comparison
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import FederationFacts, GlobalMetrics, RoundRecord, RunResult
from server_app.resume import note_files


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "photos" / f"class{number % 2}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (9, 9), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


class Engine:
    """Leaves what a run leaves, or runs; remembers what it was asked for."""

    def __init__(self, runs: bool) -> None:
        self.asked: list[str] = []
        self.runs = runs

    def __call__(self, config: RunConfig, clients: int) -> Path:
        self.asked.append(config.name)
        if self.runs:
            return run_in_process(config, clients=clients, workers=1)
        folder = RunFolder.create(config)
        note_files(folder, RunFiles.of(config.data, config.partition).words, config)
        folder.write_facts(FederationFacts(class_names=["0", "1"], num_clients=clients))
        metrics = GlobalMetrics(accuracy=0.5, macro_f1=0.5)
        folder.append_round(RoundRecord(round=1, metrics=metrics))
        folder.write_result(RunResult(status="finished", seconds=1.0))
        return folder.path


def compared(
    photos: Path, *, runs: bool = False, **changes: Scalar
) -> tuple[Comparison, list[str]]:
    engine = Engine(runs)
    base: dict[str, Scalar] = {
        "data.source": "folder",
        "data.path": str(photos),
        "data.image-size": 8,
        "model.width": 4,
        "rounds": 1,
        "train.steps": 1,
        "report": False,
        "tensorboard": False,
        "cache-dir": str(photos.parent / "cache"),
        **changes,
    }
    out = photos.parent / "runs"
    rows = {"fedavg": {"method": "fedavg"}}
    found = compare(base, rows, [0], clients=2, out_dir=out, engine=engine)
    assert not found.failures
    return found, engine.asked


def _swap(photos: Path) -> None:
    (photos / "class0").rename(photos / "other")
    (photos / "class1").rename(photos / "class0")
    (photos / "other").rename(photos / "class1")


def _more(photos: Path) -> None:
    Image.new("L", (9, 9), 3).save(photos / "class0" / "more.png")


def _mend(photos: Path) -> None:
    (photos / "class0" / "00.png").rename(photos / "class1" / "00.png")


def _repaint(photos: Path) -> None:
    Image.new("L", (9, 9), 3).save(photos / "class0" / "00.png")


@pytest.mark.parametrize("change", [_swap, _more, _mend, _repaint])
def test_other_pictures_are_another_run_and_the_log_says_so(
    photos: Path, change: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    first, asked = compared(photos)
    assert asked == ["fedavg-s0"]
    again, asked = compared(photos)
    assert asked == [] and again.outcomes == first.outcomes
    change(photos)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        third, asked = compared(photos)
    assert asked == ["fedavg-s0"]
    assert third.outcomes[0].folder != first.outcomes[0].folder
    (why,) = [line for line in caplog.messages if "runs again" in line]
    assert "files have changed since" in why and first.outcomes[0].folder in why
    assert "24 files" in why  # what it had
    assert compared(photos)[1] == []  # both lie there, the new one is taken


def test_a_real_run_leaves_what_it_is_known_by(photos: Path) -> None:
    first, asked = compared(photos, runs=True)
    known = RunConfig.from_flat({"data.source": "folder", "data.path": str(photos)})
    files = RunFiles.of(known.data, known.partition).words
    assert asked == ["fedavg-s0"] and first.outcomes[0].files.words == files
    assert compared(photos)[1] == []
    _swap(photos)
    assert compared(photos)[1] == ["fedavg-s0"]


def test_a_changed_model_of_ones_own_is_another_run(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = photos.parent / "reused_nets.py"
    module.write_text("class Net: ...\n")
    monkeypatch.syspath_prepend(str(photos.parent))
    assert compared(photos, **{"model.name": "reused_nets:Net"})[1] == ["fedavg-s0"]
    assert compared(photos, **{"model.name": "reused_nets:Net"})[1] == []
    module.write_text("class Net: 'another'\n")
    named_code._seen.clear()
    with caplog.at_level(logging.INFO):
        assert compared(photos, **{"model.name": "reused_nets:Net"})[1] == ["fedavg-s0"]
    assert "its own code" in caplog.text
    named_code._seen.clear()


def test_runs_by_another_state_of_the_app_are_reused_and_told(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = compared(photos)
    assert compared(photos)[1] == []
    assert "another state of this app" not in caplog.text
    monkeypatch.setattr("regl_app.runs.comparison.reuse.own_code_hash", lambda: "newer")
    assert compared(photos)[1] == []
    (told,) = [line for line in caplog.messages if "another state of this app" in line]
    assert first.outcomes[0].folder in told


@pytest.mark.parametrize("source", ["folder", "digits"])
def test_another_partition_under_the_same_path_is_another_run(
    photos: Path, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = photos.parent / "partition.json"
    keys: dict[str, Scalar] = {"partition.scheme": "file", "partition.file": str(given)}
    if source == "digits":
        keys |= {"data.source": "digits", "data.path": ""}
    given.write_text("[[0, 1, 2], [3]]")
    assert compared(photos, **keys)[1] == ["fedavg-s0"]
    assert compared(photos, **keys)[1] == []
    given.write_text("[[0], [1, 2, 3, 4]]")
    with caplog.at_level(logging.INFO):
        assert compared(photos, **keys)[1] == ["fedavg-s0"]
    (why,) = [line for line in caplog.messages if "runs again" in line]
    assert why.count("partition.file ") == 2


def test_other_weights_under_the_same_path_are_another_run(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = photos.parent / "start.safetensors"
    keys: dict[str, Scalar] = {"model.weights": str(path)}

    def write(seed: int) -> None:
        save_weights(path, build_model(ModelConfig(width=4), 2, 1, 8, seed).state_dict())

    write(0)
    first, asked = compared(photos, runs=True, **keys)
    assert asked == ["fedavg-s0"]
    assert compared(photos, **keys)[1] == []
    write(1)
    with caplog.at_level(logging.INFO):
        assert compared(photos, runs=True, **keys)[1] == ["fedavg-s0"]
    (why,) = [line for line in caplog.messages if "runs again" in line]
    assert why.count("; model.weights ") == 2
    write(0)
    again, asked = compared(photos, **keys)
    assert asked == [] and again.outcomes == first.outcomes
    path.unlink()
    caplog.clear()
    assert compared(photos, **keys)[1] == []
    assert "whether a run's files have changed cannot be told" in caplog.text


def test_a_run_of_an_earlier_version_does_not_say_which_weights_it_had(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = photos.parent / "start.safetensors"
    path.write_bytes(b"any")
    keys: dict[str, Scalar] = {"model.weights": str(path)}
    assert compared(photos, **keys)[1] == ["fedavg-s0"]  # notes data alone, as they did
    assert compared(photos, **keys)[1] == []
    assert "do not say which files they saw" in caplog.text
    _more(photos)
    assert compared(photos, **keys)[1] == ["fedavg-s0"]  # of the data it said enough


def test_notes_beside_the_pictures_change_nothing(photos: Path) -> None:
    compared(photos)
    (photos / "class0" / "notes.txt").write_text("seen by me")
    assert compared(photos)[1] == []


def test_a_folder_of_an_earlier_version_is_reused_and_told(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = compared(photos)
    path = Path(first.outcomes[0].folder) / "config.json"
    content = json.loads(path.read_text())
    assert content["environment"].pop("data").startswith("24 files, ")
    path.write_text(json.dumps(content))
    _more(photos)
    caplog.clear()
    again, asked = compared(photos)
    assert asked == [] and again.outcomes[0].folder == first.outcomes[0].folder
    (line,) = [line for line in caplog.messages if "do not say which files" in line]
    assert first.outcomes[0].folder in line


def test_other_settings_are_named(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    compared(photos)
    with caplog.at_level(logging.INFO):
        assert compared(photos, **{"train.steps": 2})[1] == ["fedavg-s0"]
    (line,) = [line for line in caplog.messages if "has other settings" in line]
    assert line.endswith("train.steps=1 (now 2)")


def test_a_folder_that_is_gone_leaves_its_results(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compared(photos)
    photos.rename(photos.with_name("elsewhere"))
    assert compared(photos)[1] == []
    assert "whether a run's files have changed cannot be told" in caplog.text


def test_a_source_without_files_has_no_state(photos: Path) -> None:
    plain = RunConfig.from_flat({})
    assert RunFiles.of(plain.data, plain.partition).words == ""
    digits: dict[str, Scalar] = {"data.source": "digits", "data.path": "", "data.max-train": 40}
    assert compared(photos, **digits)[1] == ["fedavg-s0"]
    assert compared(photos, **digits)[1] == []
    (run,) = finished_runs(photos.parent / "runs")
    assert run.files == Files(None, "", "")
