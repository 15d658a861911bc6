"""The Python door: docs/api.md, executed as it stands on a small configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import regl_app
from regl_app.config import RunConfig
from regl_app.data.federation import Federation
from regl_app.generator.pictures import generate_images
from regl_app.learning.models.build import make_model

ROOT = Path(__file__).resolve().parents[1]

BLOCKS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, second_pipeline: Path) -> None:
    monkeypatch.chdir(tmp_path)
    original = RunConfig.from_flat.__func__  # type: ignore[attr-defined]  # a classmethod's
    tiny = {
        "cache-dir": str(tmp_path / "cache"),
        "generator.path": str(second_pipeline),
        "generator.steps": 2,
        "lora.steps": 2,
        "train.steps": 2,
        "model.width": 4,
        "supplement.cap": 2,
        "probe.per-class": 1,
        "data.max-train": 120,
        "data.max-test": 50,
        "rounds": 1,
    }

    def from_flat(cls: type[RunConfig], flat: dict[str, Any]) -> RunConfig:
        # The step-by-step example tunes adapters; ten more would only take time.
        frozen = {"supplement.adapter": "frozen"} if flat.get("method") == "regl-dpd" else {}
        return original(cls, {**flat, **tiny, **frozen})  # type: ignore[no-any-return]

    monkeypatch.setattr(RunConfig, "from_flat", classmethod(from_flat))


def test_the_documentation_has_its_examples() -> None:
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", BLOCKS, ids=["steps", "loop", "federation", "pictures"])
def test_an_example_runs_as_it_is_printed(block: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(block, "docs/api.md", "exec"), names)
    if "supplement" in names:
        assert len(names["supplement"].images) == names["quotas"].sum() > 0
        assert names["adaptation"].path is not None
    if "history" in names:
        assert [record.round for record in names["history"]] == [0, 1]
        assert (names["path"] / "report.html").is_file()
    if "images" in names:
        assert names["images"].shape[:3] == (2, 8, 3)


def test_generated_images_depend_on_class_and_place_alone() -> None:
    config = RunConfig.from_flat({})
    both = generate_images(config, [3, 0], 2)
    alone = generate_images(config, [3], 1)[0]
    # Processors pick their kernels by batch size: the same picture up to bf16's rounding.
    assert (both[0, :1].int() - alone.int()).abs().float().mean() < 3
    assert (both[0, :1].int() - both[1, :1].int()).abs().float().mean() > 10
    assert (both[0, :1].int() - both[0, 1:].int()).abs().float().mean() > 10


def test_the_model_is_the_runs_initial_one() -> None:
    config = RunConfig.from_flat({"seed": 3})
    federation = Federation.load(config, 2)
    first, again = make_model(config, federation), make_model(config, federation)
    other = make_model(RunConfig.from_flat({"seed": 4}), federation)
    assert torch.equal(next(first.parameters()), next(again.parameters()))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_names_are_imported_when_first_used() -> None:
    assert regl_app.RunConfig is RunConfig
    assert "Federation" in dir(regl_app)
