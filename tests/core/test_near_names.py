"""Guesses at what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from regl_app.core.near_names import is_mistyped, near_path
from regl_app.core.start_dir import START_DIR


def test_of_a_path_it_is_told_what_its_folder_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sd", "flux", ".hidden"):
        (tmp_path / "ck" / name).mkdir(parents=True)
    (tmp_path / "ck" / "sd.safetensors").touch()
    (tmp_path / "ck" / "notes.txt").touch()
    monkeypatch.setenv(START_DIR, str(tmp_path))
    told = "'ck' is a folder here that holds no 'sdd' (did you mean 'ck/sd'?)"
    assert near_path("ck/sdd", ".safetensors") == told
    assert "(did you mean 'ck/sd.safetensors'?)" in near_path("ck/sda.safetensors", ".safetensors")
    held = near_path("ck/zzz@main", ".safetensors")
    assert held.endswith(" (it holds 'flux', 'sd', 'sd.safetensors')")
    assert near_path(str(tmp_path / "ck" / "fluxx")).endswith(f"mean '{tmp_path}/ck/flux'?)")
    assert near_path("owner/name") == near_path("sdd") == ""
    assert is_mistyped("ck/sdd@main") and not is_mistyped("ck/zzz") and not is_mistyped("owner/sd")


def test_of_many_a_few_are_told_and_of_none_that(tmp_path: Path) -> None:
    assert near_path(str(tmp_path / "x")).endswith(" holds no 'x'")
    for number in range(9):
        (tmp_path / f"number-{number}").mkdir()
    assert near_path(str(tmp_path / "x")).endswith("'number-4', ...)")
