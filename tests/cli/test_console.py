"""Tables in terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from regl_app.cli import console

HEADER = ["method", "global accuracy %", "own models at clients %", "rounds to 90%"]
ROWS = [["fedavg", "89.1", "100.0", "> 10"], ["regl", "97.0", "98.8", "2.0"]]


def printed(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    out = Console(width=width, force_terminal=False, file=io.StringIO(), record=True)
    monkeypatch.setattr(console, "out", out)
    console.print_table(HEADER, ROWS)
    return [line.strip() for line in out.export_text().splitlines() if line.strip()]


def test_a_wide_terminal_has_a_row_per_method(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 100)
    assert lines[0].split("  ")[0] == "method"
    assert [line.split()[0] for line in lines[2:]] == ["fedavg", "regl"]


def test_a_narrow_one_has_a_column_per_method_and_breaks_no_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = printed(monkeypatch, 40)
    assert lines[0].split() == ["method", "fedavg", "regl"]
    ends = [line.split()[-1] for line in lines[2:]]
    assert [end for end in ends if end != "%"] == ["97.0", "98.8", "2.0"]


def test_names_with_square_brackets_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Console(width=100, force_terminal=False, file=io.StringIO(), record=True)
    monkeypatch.setattr(console, "out", out)
    console.print_table(["client", "[red]", "[/b]"], [["0", "[bold]x", "1"]])
    text = out.export_text()
    assert "[red]" in text and "[/b]" in text and "[bold]x" in text
