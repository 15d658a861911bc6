"""What a run cannot go on without outlives a power cut: it is on the disk before older files go."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.files import write_text
from regl_app.data.run_pictures import KeptPictures, RunPictures
from regl_app.rounds.client_state import ClientState, Memory
from regl_app.runs.checkpoints import Checkpoint
from regl_app.runs.folder import RunFolder
from regl_app.runs.history import append_round
from regl_app.runs.records import GlobalMetrics, RoundRecord

WEIGHTS = {"w": torch.ones(2)}


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is brought to the disk, named and removed, in order; 'sync .' is a new file."""
    found: list[str] = []
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def synced(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        found.append("sync ." if name.startswith(".") else f"sync {name}")
        fsync(descriptor)

    def named(self: Path, target: Path) -> Path:
        found.append(f"name {target.name}")
        return replace(self, target)

    def removed(self: Path, missing_ok: bool = False) -> None:
        if self.is_relative_to(tmp_path) and not self.name.startswith("."):
            found.append(f"gone {self.name}")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", named)
    monkeypatch.setattr(Path, "unlink", removed)
    return found


def test_content_comes_before_the_name_and_folders_after_it(
    steps: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "a" / "b" / "x.txt"
    write_text(target, "x", durable=True)
    assert steps == ["sync .", "name x.txt", "sync b", "sync a", f"sync {tmp_path.name}"]
    steps.clear()
    write_text(target, "y", durable=True)
    assert steps == ["sync .", "name x.txt", "sync b"]
    steps.clear()
    write_text(target, "z")
    assert steps == ["name x.txt"], "what can be made again waits for nothing"


def test_a_checkpoint_is_there_before_older_ones_go(steps: list[str], tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path / "runs")
    assert steps == ["sync .", "name config.json", f"sync {folder.name}", "sync runs"]
    for number in (1, 2, 3):
        steps.clear()
        folder.keep_best(number, WEIGHTS)
        folder.checkpoint(Checkpoint(number, WEIGHTS, {}))
        folder.leave_best({number - 1: [number - 1], number: [number]})
    assert steps == [
        *("sync .", "name best-0003.safetensors", "sync checkpoints"),
        *("sync .", "name round-0003.safetensors", "sync checkpoints"),
        *("gone round-0001.safetensors", "gone best-0001.safetensors"),
    ]
    steps.clear()
    folder.save_model(WEIGHTS)
    assert steps == ["sync .", "name model.safetensors", f"sync {folder.name}"]


def test_a_history_is_listed_in_its_folder(steps: list[str], tmp_path: Path) -> None:
    for number in (1, 2):
        scores = GlobalMetrics(accuracy=0.5, macro_f1=0.5)
        append_round(tmp_path / "history.jsonl", RoundRecord(round=number, metrics=scores))
    assert steps == ["sync history.jsonl", f"sync {tmp_path.name}", "sync history.jsonl"]


def test_a_nodes_own_part_is_on_the_disk_and_what_can_be_made_again_waits_for_nothing(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = ClientState(tmp_path / "client-00")
    state.save(Memory(1, WEIGHTS, held=np.array([1])))
    assert steps == ["name round-0001.safetensors"]
    steps.clear()
    state.save(Memory(2, kept=WEIGHTS))
    assert steps == ["name round-0002.safetensors"], "a simulation can be begun again"
    steps.clear()
    monkeypatch.setattr("sys.argv", ["/bin/flwr-clientapp"])
    state.save(Memory(3, kept=WEIGHTS))
    assert steps[:3] == ["sync .", "name round-0003.safetensors", "sync client-00"]


def test_which_pictures_a_sites_run_began_with_is_on_the_disk(
    steps: list[str], tmp_path: Path
) -> None:
    kept = KeptPictures.of(tmp_path / "state-dir", "run", 0)
    kept.write(RunPictures((("cat/0.png", 0, 1, 2),)))
    assert steps[:2] == ["sync .", f"name {kept.path.name}"]
