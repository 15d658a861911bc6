"""Which checkpoints are told the guidance scale, in tuning as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.generator.fitting import tunes_by_guidance


@pytest.mark.parametrize(
    ("name", "told"),
    [("flux-dev", True), ("flux-schnell", False), ("lcm", True), ("sdxl", False), ("sd3", False)],
)
def test_its_configuration_alone_tells(
    name: str, told: bool, pipelines: Callable[[str], Path]
) -> None:
    assert tunes_by_guidance(pipelines(name)) is told
