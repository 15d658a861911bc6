"""Names in one text, with any mark in them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regl_app.config import RunConfig
from regl_app.config.name_list import listed, parse_names
from regl_app.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("cat, dog,emu", ("cat", "dog", "emu")),
        ("cat,,dog", ("cat", "", "dog")),
        ('["a, 1", " b "]', ("a, 1", " b ")),
        (' ["日本語"]', ("日本語",)),
        ("-dash,<b>x&y", ("-dash", "<b>x&y")),
        (unicodedata.normalize("NFD", "café,é"), ("café", "é")),
    ],
)
def test_names(text: str, names: tuple[str, ...]) -> None:
    assert parse_names(text) == names


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_every_list_of_names_has_a_text(names: list[str]) -> None:
    composed = tuple(unicodedata.normalize("NFC", name) for name in names)
    assert parse_names(listed(composed)) == composed


def test_plain_names_are_listed_with_commas() -> None:
    assert listed(["a", "b c"]) == "a,b c" and listed(["a,b", "c"]) == '["a,b", "c"]'


@pytest.mark.parametrize("text", ['["a"', "[a, b]", "[1, 2]", '["a", null]'])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.classes must be names, comma-separated or a JSON"
    ):
        RunConfig.from_flat({"method": "fedavg", "data.source": "site", "data.classes": text})
