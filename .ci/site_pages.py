"""MkDocs' hook: the site shows the repository's own pages, at their own places.

README, CHANGELOG, docs/ and the results keep their paths, so that a link that works on the code
host works here. The reference is made of the docstrings: one page for the door, one per package.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
SHOWN = (
    *("*.md", "LICENSE", "docs/*.md", "docs/*.svg", "docs/*.png", "docs/notebooks/*.ipynb"),
    *("benchmarks/results/*.md", "benchmarks/results/*.svg"),
)
# In the order in which they import one another; the commands are told by `regl --help`.
IN_ORDER = "core config data learning generator supplement rounds runs flower"
PACKAGES = [
    name for name in IN_ORDER.split() if (ROOT / "regl_app" / name / "__init__.py").is_file()
]

_DOOR = """# The library's door

What `import regl_app` offers; [the library without Flower](../docs/api.md) shows it at work.

::: regl_app
    options:
      show_root_toc_entry: false
      show_root_heading: false
"""

_PACKAGE = """# regl_app.{name}

::: regl_app.{name}
    options:
      show_root_toc_entry: false
      show_root_heading: false
      show_submodules: true
"""


def on_config(config: MkDocsConfig) -> None:
    """Add the reference to the navigation."""
    pages = ["door", *PACKAGES]
    config.nav.append({"Reference": [{name: f"reference/{name}.md"} for name in pages]})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace what MkDocs found below docs/ by the repository's pages and the reference."""
    shown = [file for file in files if file.generated_by is not None or not _is_ours(file)]
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            place = path.relative_to(ROOT).as_posix()
            shown.append(File.generated(config, place, abs_src_path=str(path)))
    pages = {"door": _DOOR} | {name: _PACKAGE.format(name=name) for name in PACKAGES}
    for name, text in pages.items():
        shown.append(File.generated(config, f"reference/{name}.md", content=text))
    return Files(shown)


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Give a result, which opens with what was measured, its name as the title."""
    if page.file.src_uri.startswith("benchmarks/results/"):
        return f"# {Path(page.file.src_uri).stem}\n\n{markdown}"
    return markdown


def _is_ours(file: File) -> bool:
    return file.abs_src_path is not None and Path(file.abs_src_path).is_relative_to(ROOT / "docs")
