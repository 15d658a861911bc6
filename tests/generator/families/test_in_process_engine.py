"""The in-process engine on checkpoints whose settings are known once their files are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.config import RunConfig
from regl_app.flower.engines.in_process import run_in_process
from regl_app.generator.foundation import Foundation
from regl_app.runs.folder import RunFolder


@pytest.mark.parametrize("name", ["lcm", "flux-dev", "sdxl"])
def test_a_worker_loads_a_checkpoint_once_with_its_own_settings(
    name: str,
    pipelines: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load, loaded = Foundation.load, []

    def counted(config: Any, *others: Any) -> Foundation:
        loaded.append(config.guidance)
        return load(config, *others)

    monkeypatch.setattr(Foundation, "load", counted)
    config = RunConfig.from_flat(
        {
            "method": "regl-free",
            "rounds": 1,
            "train.steps": 1,
            "model.width": 4,
            "data.max-train": 40,
            "data.max-test": 20,
            "generator.path": str(pipelines(name)),
            "generator.steps": 1,
            "generator.image-size": 32,
            "supplement.target": 1,
            "supplement.ratio": 0.1,
            "pool.per-class": 1,
            "cache-dir": str(tmp_path / "cache"),
            "out-dir": str(tmp_path),
            "report": False,
            "tensorboard": False,
        }
    )
    folder = RunFolder.open(run_in_process(config, clients=2, workers=1))
    assert len(loaded) == 1 and isinstance(loaded[0], float)
    assert [record.round for record in folder.read_history()] == [0, 1]
