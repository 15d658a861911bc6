"""The in-process engine on checkpoints whose settings are known once their files are."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process
from regl_app.generator.foundation import Foundation
from regl_app.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("nothing_kept")


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


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Foundation]]:
    """Return what becomes the foundations that are loaded."""
    load, seen = Foundation.load, list[weakref.ref[Foundation]]()

    def watched(*args: Any) -> Foundation:
        foundation = load(*args)
        seen.append(weakref.ref(foundation))
        return foundation

    monkeypatch.setattr(Foundation, "load", watched)
    return seen


def _run(tmp_path: Path, workers: int, changes: dict[str, Scalar]) -> Path:
    flat: dict[str, Scalar] = {
        "rounds": 1,
        "train.steps": 1,
        "model.width": 4,
        "data.max-train": 40,
        "data.max-test": 20,
        "data.image-size": 16,
        "generator.steps": 1,
        "supplement.adapter": "frozen",
        "supplement.target": 1,
        "supplement.cap": 2,
        "pool.per-class": 4,
        "probe.per-class": 1,
        "server.tune-steps": 1,
        "out-dir": str(tmp_path),
        "report": False,
        "tensorboard": False,
        "cache-dir": str(tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"),
    }
    return run_in_process(RunConfig.from_flat(flat | changes), clients=2, workers=workers)


def test_server_and_clients_share_one_which_the_next_run_finds(
    tmp_path: Path,
    quick_generator: dict[str, Scalar],
    loaded: list[weakref.ref[Foundation]],
) -> None:
    keys = {"method": "feddpd", "rounds": 2, **quick_generator}
    _run(tmp_path, 1, keys)
    assert len(loaded) == 1
    _run(tmp_path, 1, keys)
    _run(tmp_path, 1, keys | {"method": "regl-free"})
    assert len(loaded) == 1


def test_no_more_are_kept_than_there_are_workers(
    tmp_path: Path,
    quick_generator: dict[str, Scalar],
    second_pipeline: Path,
    loaded: list[weakref.ref[Foundation]],
) -> None:
    def alive() -> int:
        gc.collect()
        return sum(each() is not None for each in loaded)

    keys = {"method": "regl-free", **quick_generator}
    _run(tmp_path, 2, keys)
    assert (len(loaded), alive()) == (2, 2)
    _run(tmp_path, 1, keys)
    assert (len(loaded), alive()) == (2, 1)
    _run(tmp_path, 1, keys | {"generator.path": str(second_pipeline)})
    assert (len(loaded), alive()) == (3, 1)


def test_a_kept_one_does_not_allow_steps_that_its_checkpoint_refuses(
    tmp_path: Path, pipelines: Callable[[str], Path], loaded: list[weakref.ref[Foundation]]
) -> None:
    keys: dict[str, Scalar] = {
        "method": "regl-free",
        "generator.path": str(pipelines("lcm")),
        "generator.image-size": 32,
        "generator.guidance": 1.0,
    }
    _run(tmp_path, 1, keys)
    with pytest.raises(GeneratorError, match=r"generator\.steps=60: .*is 50 "):
        _run(tmp_path, 1, keys | {"generator.steps": 60})
    assert len(loaded) == 1
