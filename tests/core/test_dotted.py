"""Dotted names of implementations."""

from __future__ import annotations

import math

import pytest

from regl_app.core.dotted import resolve


def test_an_attribute_is_found_by_its_module() -> None:
    assert resolve("math:tau") == math.tau


@pytest.mark.parametrize("dotted", ["", "math", "math.tau", ":tau", "math:"])
def test_what_is_no_dotted_name_is_refused(dotted: str) -> None:
    with pytest.raises(ValueError, match=r"package\.module:attribute"):
        resolve(dotted)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ImportError):
        resolve("no.such.module:x")
    with pytest.raises(AttributeError, match="nothing"):
        resolve("math:nothing")
