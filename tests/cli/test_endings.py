"""What a command writes by its name's ending is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from regl_app.cli import app

NOT_LOADED = ["data.source=folder", "data.path=nowhere"]
"""Data that cannot be read: a command that says something else has not looked for it yet."""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "--out", "grid", *NOT_LOADED], ["--out must end in .png, ", "got 'grid'"]),
        (["generate", "--out", "grid.svg", *NOT_LOADED], ["--out must end in .png, "]),
        (["generate", "--out", "grid.hdf5", *NOT_LOADED], ["--out must end in .png, "]),
        (["generate", "--out", "a.png", *NOT_LOADED], ["--out 'a.png' is a folder"]),
        (["partition", "--out", "map", *NOT_LOADED], ["--out must end in .png, ", "got 'map'"]),
        (
            ["partition", "--write", "who.txt", *NOT_LOADED],
            ["--write must end in .csv or .json", "got 'who.txt'"],
        ),
        (["partition", "--write", "a.csv", *NOT_LOADED], ["--write 'a.csv' is a folder"]),
        (
            ["predict", "nowhere", "x.png", "--out", "x"],
            ["--out must end in .csv or .json, or be '-', got 'x'"],
        ),
        (["evaluate", "nowhere", "--out", "a.json"], ["--out 'a.json' is a folder"]),
        (["report", "nowhere", "--out", "a.html"], ["--out 'a.html' is a folder"]),
    ],
)
def test_a_name_that_cannot_be_written_is_refused_before_anything_is_loaded(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.csv", "a.json", "a.html"):
        (tmp_path / name).mkdir()
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "500"})
    assert done.exit_code == 2, done.output
    assert all(each in done.output for each in words), done.output


def test_a_drawing_that_needs_latex_is_refused_at_once_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["partition", "--out", "map.pgf", *NOT_LOADED]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "500"})
    assert done.exit_code == 2, done.output
    assert "--out must end in .png, " in done.output and "got 'map.pgf'" in done.output


@pytest.mark.parametrize("name", ["grid.PNG", "grid.jpg", "grid.webp", "grid.eps", "grid.GIF"])
def test_a_picture_may_be_of_any_of_the_usual_kinds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("generate", "partition"):
        done = CliRunner().invoke(
            app, [command, "--out", name, *NOT_LOADED], env={"COLUMNS": "500"}
        )
        assert done.exit_code and "nowhere" in done.output, done.output


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("generate", "grid.tga"),
        ("generate", "grid.ppm"),
        ("partition", "map.ps"),
        ("partition", "map.SVGZ"),
    ],
)
def test_so_it_may_of_any_other_that_its_library_writes(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [command, "--out", name, *NOT_LOADED], env={"COLUMNS": "500"})
    assert done.exit_code and "nowhere" in done.output, done.output
