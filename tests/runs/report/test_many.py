"""Reports of many clients, classes and rounds: what is read, how large they get, what stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.core.array_files import Array, read_arrays
from regl_app.runs.report.build import build_report

RunMaker = Callable[..., Path]


def test_no_sample_pictures_are_read_but_those_that_are_shown(
    make_run: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, method="regl", rounds=1)
    read: list[str] = []

    def reading(path: Path) -> dict[str, Array]:
        read.append(path.name)
        return read_arrays(path)

    monkeypatch.setattr("regl_app.runs.samples.read_arrays", reading)
    html = build_report([run], tmp_path / "r.html").read_text()
    assert len(read) == html.count('class="walls"') * 4 == 4
    (run / "samples" / read[0]).write_bytes(b"PK")
    html = build_report([run], tmp_path / "r.html").read_text()
    assert len(read) == 4 + 5
    assert html.count("Real and synthetic images of client") == 4
