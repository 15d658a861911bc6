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
CODE = re.compile(r"^```.*?^```", flags=re.M | re.S)
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


def _anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page; MkDocs is asked by its own."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.+?) *$", CODE.sub("", text), flags=re.M):
        shown = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
        # A dropped sign leaves both of its spaces, of which MkDocs makes one hyphen.
        anchor = re.sub(r"[^\w -]", "", shown).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
        if found[anchor]:
            found[f"{anchor}-{found[anchor]}"] = 0
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_anchor_that_a_page_links_to_is_a_heading_on_github(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for name, anchor in re.findall(r"\]\(((?:[\w./-]+\.md)?)#([^)\s]+)\)", text):
        target = page.parent / name if name else page
        if not target.is_file() or anchor not in _anchors(target.read_text(encoding="utf-8")):
            broken.append(f"{name}#{anchor}")
    assert broken == []
