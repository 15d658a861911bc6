"""Caches stay below their size; what is in use, and what others do meanwhile, is respected."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from regl_app.core.disk_cache import entries, evict, touch
from regl_app.core.files import atomic_path

HOUR = 3600
_Make = Callable[[str, float], Path]


@pytest.fixture(params=["file", "folder"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> _Make:
    """Return what makes an entry of 100 bytes, last used so many hours ago."""

    def write(name: str, hours: float) -> Path:
        path = tmp_path / name
        if request.param == "folder":
            path.mkdir()
            (path / "a").write_bytes(bytes(60))
            (path / "b").write_bytes(bytes(40))
        else:
            path.write_bytes(bytes(100))
        when = time.time() - hours * HOUR
        os.utime(path, (when, when))
        return path

    return write


def _names(root: Path) -> list[str]:
    return sorted(entry.path.name for entry in entries(root, "e*"))


def test_the_least_recently_used_go_until_the_rest_fits(make: _Make, tmp_path: Path) -> None:
    for hours in (1, 2, 3, 4):
        make(f"e{hours}", hours)
    touch(tmp_path / "e4")
    evict(tmp_path, "e*", 250, keep=tmp_path / "e1")
    assert _names(tmp_path) == ["e1", "e4"]
    assert sum(entry.size for entry in entries(tmp_path, "e*")) == 200
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_was_just_written_and_what_is_in_use_stay(make: _Make, tmp_path: Path) -> None:
    for hours in (0.5, 2, 3):
        make(f"e{hours}", hours)
    evict(tmp_path, "e*", 1, keep=tmp_path / "e3", spare=HOUR)
    assert _names(tmp_path) == ["e0.5", "e3"]
    evict(tmp_path, "e*", 1, keep=tmp_path / "e3")
    assert _names(tmp_path) == ["e3"]


def test_below_the_limit_nothing_goes(make: _Make, tmp_path: Path) -> None:
    make("e1", 900)
    evict(tmp_path, "e*", 100, keep=tmp_path / "none")
    assert _names(tmp_path) == ["e1"]


def test_what_killed_processes_left_goes_after_a_day(make: _Make, tmp_path: Path) -> None:
    names = (".e1.123-0a1b2c3d", ".e1.123-0a1b2c3d.safetensors", ".pool.safetensors.lock")
    for name in names:
        make(name, 25)
        make(name.replace("1", "2").replace("pool", "young"), 23)
    foreign = make(".somebody-elses", 99)
    evict(tmp_path, "e*", 1000, keep=tmp_path)
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert left == {name.replace("1", "2").replace("pool", "young") for name in names} | {
        foreign.name
    }
    make(names[0], 25)
    evict(tmp_path, "e*", 1000, keep=tmp_path)
    assert (tmp_path / names[0]).exists()  # looked for once a day


def test_processes_that_write_and_evict_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        for done in [pool.submit(_churn, str(tmp_path), who) for who in range(2)]:
            done.result()
    assert 0 < len(_names(tmp_path)) <= 6


def _churn(root: str, who: int) -> None:
    for number in range(60):
        path = Path(root) / f"e{who}-{number}"
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / "a").write_bytes(bytes(100))
        evict(Path(root), "e*", 500, keep=path)


def test_what_another_user_owns_is_left_alone(
    make: _Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, hours in (("e-theirs", 5), ("e-stuck", 4), ("e-old", 3), ("e-new", 1)):
        make(name, hours)
    listed, rename = Path.iterdir, Path.rename

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "e-theirs":
            raise PermissionError(errno.EACCES, "denied")
        return listed(path)

    def renamed(path: Path, target: Path) -> Path:
        if path.name in ("e-theirs", "e-stuck"):
            raise PermissionError(errno.EACCES, "denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(Path, "rename", renamed)
    evict(tmp_path, "e*", 200, keep=tmp_path / "e-new")
    assert {path.name for path in tmp_path.glob("e*")} == {"e-theirs", "e-stuck", "e-new"}
