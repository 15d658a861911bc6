"""Checkpoints: the last two, and none that is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.runs.checkpoints import Checkpoint
from regl_app.runs.folder import RunFolder


def test_only_the_last_two_checkpoints_stay(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    assert folder.read_checkpoint() is None
    for number in (1, 2, 9, 10):
        weights, state = {"w": torch.full((2,), float(number))}, {"text": torch.tensor([number])}
        folder.checkpoint(Checkpoint(number, weights, state))
    kept = sorted(path.name for path in folder.checkpoints.iterdir())
    assert kept == ["round-0009.safetensors", "round-0010.safetensors"]
    found = folder.read_checkpoint()
    assert found is not None and found.round == 10
    assert found.weights["w"].tolist() == [10, 10] and found.state["text"].tolist() == [10]


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    for number in (1, 2):
        folder.checkpoint(Checkpoint(number, {"w": torch.full((99,), float(number))}, {}))

    def damage(path: Path) -> None:
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
        path.write_bytes({"truncated": content[:-5], "flipped": flipped, "emptied": b""}[how])

    damage(folder.checkpoints / "round-0002.safetensors")
    found = folder.read_checkpoint()
    assert found is not None and found.round == 1 and found.weights["w"][0] == 1
    assert "round-0002.safetensors: damaged" in caplog.text
    damage(folder.checkpoints / "round-0001.safetensors")
    with pytest.raises(RunError, match="2 checkpoints, all damaged"):
        folder.read_checkpoint()


def test_what_any_kept_checkpoint_needs_of_the_best_models_stays(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    bests: dict[int, tuple[int, ...]] = {}
    for number, best in enumerate((1, 1, 3, 4, 4), start=1):
        weights = {"w": torch.full((2,), float(number))}
        if best == number:
            folder.keep_best(number, weights)
        folder.checkpoint(Checkpoint(number, weights, {}))
        bests[number] = (best,)
        folder.leave_best(bests)
        kept = sorted(path.name for path in folder.checkpoints.glob("best-*"))
        needed = sorted({*bests[number], *bests.get(number - 1, ())})
        assert kept == [f"best-{each:04d}.safetensors" for each in needed]


@pytest.mark.parametrize("damaged", [False, True])
def test_the_best_model_is_also_in_its_rounds_checkpoint(tmp_path: Path, damaged: bool) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    weights = {"w": torch.arange(9.0)}
    folder.checkpoint(Checkpoint(2, weights, {"text": torch.tensor([2])}))
    best = folder.keep_best(2, weights)
    if damaged:
        best.write_bytes(best.read_bytes()[:-5])
    else:
        best.unlink()
    found = folder.load_best(2)
    assert list(found) == ["w"] and torch.equal(found["w"], weights["w"])
    assert best.is_file(), "the checkpoint goes with the next rounds"
    (folder.checkpoints / "round-0002.safetensors").unlink()
    assert torch.equal(folder.load_best(2)["w"], weights["w"])
