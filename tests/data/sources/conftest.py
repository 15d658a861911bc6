"""Fixtures shared by the tests of sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regl_app.config.sections import DataConfig
from regl_app.data.source import Source
from regl_app.data.sources.registry import load_source


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Source]:
    """Return what loads the hub's data set in the folder ``set``, its pictures 8 pixels wide."""

    def read(**keys: Any) -> Source:
        path = str(tmp_path / "set")
        return load_source(DataConfig(**{"source": "hub", "path": path, "image_size": 8, **keys}))

    return read
