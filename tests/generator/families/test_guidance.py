"""Which checkpoints are told the guidance scale, and which hear a negative prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.types import Scalar
from regl_app.generator.fitting import tunes_by_guidance, unheard_prompt
from regl_app.generator.foundation import Foundation
from regl_app.runs.folder import UNHEARD, RunFolder


@pytest.mark.parametrize(
    ("name", "told"),
    [("flux-dev", True), ("flux-schnell", False), ("lcm", True), ("sdxl", False), ("sd3", False)],
)
def test_its_configuration_alone_tells(
    name: str, told: bool, pipelines: Callable[[str], Path]
) -> None:
    assert tunes_by_guidance(pipelines(name)) is told


@pytest.mark.parametrize(
    ("name", "keys", "why"),
    [
        ("flux-dev", {"guidance": 3.5}, "takes generator.guidance as an input"),
        ("lcm", {"guidance": 8.5}, "takes generator.guidance as an input"),
        ("flux-schnell", {"guidance": 1.0}, "generator.guidance=1 is off"),
        ("sdxl", {"guidance": 1.0}, "generator.guidance=1 is off"),
        ("sdxl", {"guidance": 2.0, "guidance_stop": 0.0}, "generator.guidance-stop=0 guides no"),
        ("sdxl", {"guidance": 2.0}, ""),
        ("sdxl", {"guidance": 1.0, "negative_prompt": ""}, ""),
    ],
)
def test_a_negative_prompt_that_nothing_hears_is_told_once(
    name: str,
    keys: dict[str, Any],
    why: str,
    pipelines: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = {"negative_prompt": "ugly", "precision": "fp32", "image_size": 32, **keys}
    Foundation.load(GeneratorConfig(path=str(pipelines(name)), **away), ("a cat", "a dog"))
    told = [each.getMessage() for each in caplog.records if "has no effect" in each.getMessage()]
    assert len(told) == (1 if why else 0)
    assert all(why in each and "generator.negative-prompt='ugly'" in each for each in told)


@pytest.mark.parametrize(("name", "ignored"), [("flux-dev", True), ("sd3", False)])
def test_a_run_knows_it_by_configurations(
    name: str, ignored: bool, pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    keys: dict[str, Scalar] = {
        "generator.path": str(pipelines(name)),
        "generator.guidance": 3.5,
        "generator.negative-prompt": "ugly",
    }
    config = RunConfig.from_flat({"method": "regl", **keys})
    assert ("never told it" in unheard_prompt(config)) == ignored
    assert (UNHEARD in RunFolder.create(config, tmp_path).read_environment()) == ignored
    assert not unheard_prompt(config.updated({"generator.negative-prompt": ""}))
    assert not unheard_prompt(config.updated({"generator.path": "nobody/has-it"}))
