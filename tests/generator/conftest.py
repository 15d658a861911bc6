"""Fixtures shared by the tests of generators."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regl_app.generator.kept_foundations import free_idle, give_back


@pytest.fixture
def nothing_kept() -> Iterator[None]:
    """Begin and end without a foundation that a thread has or that lies idle."""
    give_back()
    free_idle()
    yield
    give_back()
    free_idle()
