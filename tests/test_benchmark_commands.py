"""The command that stands over and below a published table is the one that makes it."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _head_s_command(name: str) -> str:
    head = (BENCHMARKS / "results" / f"{name}.md").read_text(encoding="utf-8").partition("\n")[0]
    return re.findall("`(.+?)`", head)[-1]


def test_the_command_over_a_table_makes_its_runs() -> None:
    tables: dict[str, dict[str, Any]] = importlib.import_module("feddpd").read_tables()
    for name, each in tables.items():
        if not (BENCHMARKS / "results" / f"{name}.md").is_file():
            continue
        said = _head_s_command(name)
        if "table.py" in said:  # older than feddpd.toml, and as good
            continue
        names = " ".join([*each.get("of", ()), name])
        data = "" if each["source"] == "digits" else " --data <root>"
        assert said == f"python benchmarks/feddpd.py {names}{data}"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(f"docs/{name}.md" for name in ("teaching-results", "feddpd-results", "methods")),
    ],
)
def test_the_command_below_a_table_is_the_one_over_its_result(page: str) -> None:
    text = (BENCHMARKS.parent / page).read_text(encoding="utf-8")
    blocks = re.findall(r"(?s)<!-- ([\w.-]+) -->\n(.*?)<!-- /\1 -->", text)
    assert blocks
    for name, block in blocks:
        said = _head_s_command(name)
        if "table.py" in said:
            said = f"python benchmarks/feddpd.py {name}"
        assert f"`{said}`; " in block, name


@pytest.mark.parametrize("name", ["methods-mnist-beta0.01", "methods-mnist-*"])
def test_a_table_that_is_named_and_cannot_be_made_is_a_failure(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["feddpd.py", name])
    assert importlib.import_module("feddpd").main()
    told = capsys.readouterr().err
    assert "methods-mnist-beta0.01: not made, it needs --data <root>" in told


def test_a_table_of_downloaded_images_says_that_it_needs_them() -> None:
    table = importlib.import_module("table")
    for source, data in (("digits", ""), ("mnist", " --data <root>")):
        said = table._command(table._parser().parse_args([source]))
        assert said == f"python benchmarks/table.py {source} --beta 0.01 --seeds 3{data}"


def test_what_runs_a_table_s_rows_knows_all_of_them_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = importlib.import_module("who_holds_what")
    ran: list[Any] = []
    monkeypatch.setattr(script, "RESULT", tmp_path / "found.json")
    monkeypatch.setattr(script, "_run", lambda _base, config: (ran.append(config) or [0.5], {}))
    monkeypatch.setattr(script, "_document", lambda *_: "")
    monkeypatch.setattr(sys, "argv", ["who_holds_what.py", "--seeds", "100"])
    script.main()
    assert len(ran) == len(script.ROWS)
