"""Classes named on the command line, whatever is in their names."""

from __future__ import annotations

import pytest

from regl_app.cli.generate import pick
from regl_app.core.errors import ConfigError

NAMES = ("a", "Pepper,_bell", "[x]", "日本語")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", [0, 1, 2, 3]),
        ("日本語, a", [3, 0]),
        ("Pepper,_bell", [1]),
        ("[x]", [2]),
        ('["Pepper,_bell", "a"]', [1, 0]),
    ],
)
def test_names_are_found(text: str, labels: list[int]) -> None:
    assert pick(text, NAMES) == labels


@pytest.mark.parametrize("text", ["Pepper", '["a"', "b"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--classes"):
        pick(text, NAMES)
