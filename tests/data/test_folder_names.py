"""A class's folder lies where it belongs, whatever the class is called."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regl_app.data.folder_names import folder_names
from regl_app.data.leftovers import is_leftover

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(st.lists(TEXT, unique=True, max_size=8))
def test_every_class_has_a_folder_of_its_own_in_the_place_it_belongs_to(names: list[str]) -> None:
    folders = folder_names(names)
    assert len(set(folders)) == len(names)
    for name in folders:
        path = Path("/top") / name
        assert path.parent == Path("/top") and path.name == name and ".." not in path.parts
        assert len(name.encode()) <= 255 and not is_leftover(name) and "\0" not in name


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("cat", "cat"),
        ("Pepper,_bell___healthy", "Pepper,_bell___healthy"),
        ("<b>x&y", "<b>x&y"),
        ("日本語", "日本語"),
        ("50%", "50%"),
        ("cell/tissue", "cell%2Ftissue"),
        ("../up", "%2E.%2Fup"),
        ("..", "%2E."),
        ("/etc/passwd", "%2Fetc%2Fpasswd"),
        ("a\\b", "a%5Cb"),
        (".net", "%2Enet"),
        ("lost+found", "%6Cost+found"),
        ("%2F", "%252F"),
        ("", "%00"),
    ],
)
def test_a_name_stays_where_it_can(name: str, folder: str) -> None:
    assert folder_names([name]) == (folder,)


def test_a_long_name_is_cut_between_characters() -> None:
    first, second = folder_names(["語" * 200 + "a", "語" * 200 + "b"])
    assert first != second and unicodedata.is_normalized("NFC", first)
