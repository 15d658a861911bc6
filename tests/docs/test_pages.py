"""What the pages name is there: files, modules and tests, wherever they have moved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
TOPS = ("regl_app", "client_app", "server_app", "tests", "benchmarks", "docs", "docker", r"\.ci")
# A path from the root, or a test named as docs/faults.md does, from tests/ and without its ending.
PATH = re.compile(rf"(?<![\w/.<-])(?:{'|'.join(TOPS)})/[\w./-]*\w/?")
TEST = re.compile(r"`((?:\w+/)*test_\w+)`")
# Made by who follows the page, or shown as what to add.
TO_BE = {"docker/keys", "docker/data/digits", "docker/data/digits/client-0N"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    text = TEST.sub("", page.read_text(encoding="utf-8"))
    added = set(re.findall(r"^`(regl_app/[\w/]+\.py)`[:,]", text, flags=re.M))
    named = {found.rstrip("/.") for found in PATH.findall(text)}
    missing = {name for name in named - added - TO_BE if not (ROOT / name).exists()}
    assert missing == set()


@pytest.mark.parametrize("page", ["faults", "data"])
def test_every_test_that_a_page_of_cases_names_is_there(page: str) -> None:
    named = TEST.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert {name for name in named if not (ROOT / "tests" / f"{name}.py").is_file()} == set()
