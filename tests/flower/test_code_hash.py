"""The digest of the code changes with any of it, and not with where it lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import regl_app
from regl_app.flower.code_hash import PACKAGES, hash_code, own_code_hash


def _app(root: Path) -> Path:
    for package in PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text("x = 1\n")
    return root


def test_it_follows_names_and_content_but_not_place(tmp_path: Path) -> None:
    one = _app(tmp_path / "one")
    two = Path(shutil.copytree(one, tmp_path / "two"))
    assert hash_code(one) == hash_code(two)
    (two / "client_app" / "__init__.py").write_text("x = 2\n")
    assert hash_code(one) != hash_code(two)
    (two / "client_app" / "__init__.py").write_text("x = 1\n")
    (two / "client_app" / "more.py").write_text("")
    assert hash_code(one) != hash_code(two)


def test_other_files_do_not_count(tmp_path: Path) -> None:
    root = _app(tmp_path)
    before = hash_code(root)
    (root / "regl_app" / "weights.safetensors").write_bytes(b"1")
    (root / "README.md").write_text("hello")
    assert hash_code(root) == before


def test_our_own_is_that_of_the_code_that_runs() -> None:
    assert own_code_hash() == hash_code(Path(regl_app.__file__).resolve().parent.parent)
