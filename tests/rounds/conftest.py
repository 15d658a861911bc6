"""Methods that somebody writes: offered by another package under the objective ``hers``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from regl_app.config import external
from regl_app.learning.methods.method import Method


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[Method]], None]]:
    """Return what makes a class of a module the objective ``hers``."""
    others = metadata.entry_points

    def make(found: type[Method]) -> None:
        dotted = f"{found.__module__}:{found.__name__}"

        def entry_points(**wanted: Any) -> Any:
            ours = wanted == {"group": external.GROUP}
            return [EntryPoint("hers", dotted, external.GROUP)] if ours else others(**wanted)

        monkeypatch.setattr(metadata, "entry_points", entry_points)
        external.offered.cache_clear()

    external.offered.cache_clear()
    yield make
    external.offered.cache_clear()
