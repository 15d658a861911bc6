"""The tables of the documentation can be made: their rows are configurations that run."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from regl_app.cli.settings import parse_variants
from regl_app.config import RunConfig

TABLES = tomllib.loads(
    (Path(__file__).parents[1] / "benchmarks" / "feddpd.toml").read_text(encoding="utf-8")
)


def test_every_row_is_a_valid_configuration() -> None:
    assert TABLES
    for each in TABLES.values():
        for settings in parse_variants(each["rows"]).values():
            source = {"data.source": each["source"], "partition.beta": float(each["beta"])}
            needs = {"data.path": "somewhere"} if each["source"] != "digits" else {}
            RunConfig.from_flat({**source, **needs, **each.get("settings", {}), **settings})


def test_the_page_of_results_holds_what_was_measured() -> None:
    page = Path(__file__).parents[1] / "benchmarks" / "page.py"
    found = subprocess.run([sys.executable, page, "--check"], check=False)
    assert found.returncode == 0, "run `python benchmarks/page.py`"


def test_rows_of_one_name_that_share_run_folders_are_the_same() -> None:
    seen: dict[tuple[str, str], object] = {}
    for name, each in TABLES.items():
        for row, settings in parse_variants(each["rows"]).items():
            key = (each.get("runs", name), row)
            full = (each["source"], each["beta"], each.get("settings", {}), settings)
            assert seen.setdefault(key, full) == full, key
