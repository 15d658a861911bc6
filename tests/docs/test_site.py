"""The documentation as a site: every warning is an error, and no page needs a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers")

pytestmark = pytest.mark.skipif(
    any(find_spec(part) is None for part in PARTS),
    reason="the site is made by MkDocs: pip install -e '.[docs]' -c constraints.txt",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml", "-d", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_of_the_documentation_is_on_the_site(site: Path) -> None:
    assert "<title>" in (site / "index.html").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert (site / "docs" / path.stem / "index.html").is_file(), path.name


def test_the_reference_holds_the_door_with_its_docstrings(site: Path) -> None:
    door = (site / "reference" / "door" / "index.html").read_text(encoding="utf-8")
    assert 'id="regl_app.RunConfig"' in door
    assert "Build the configuration from dotted keys" in door


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loads = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*?(?:href|src)=\"?(https?:)?//")
    for path in site.rglob("*.html"):
        assert loads.search(path.read_text(encoding="utf-8")) is None, path
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert re.search(r"url\([\"']?(https?:)?//|@import", text) is None, path
