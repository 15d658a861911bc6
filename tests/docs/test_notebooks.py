"""The notebooks run from the first cell to the last, and are what their scripts say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def test_each_notebook_has_its_script() -> None:
    scripts = (ROOT / "docs" / "notebooks").glob("*.py")
    assert {path.stem for path in NOTEBOOKS} == {path.stem for path in scripts}
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_what_its_script_says(path: Path) -> None:
    notebook, script = read(path), jupytext.read(path.with_suffix(".py"))
    told = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert told == [(cell.cell_type, cell.source) for cell in script.cells], (
        f"jupytext --to ipynb docs/notebooks/{path.stem}.py"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_kept(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_the_first_cell_to_the_last(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGL_NOTEBOOK_QUICK", "1")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read(path)
    client = NotebookClient(
        notebook, timeout=550, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [each for each in outputs if "image/png" in each.get("data", {})]
    shown = sum(
        cell.source.count("plt.show()") for cell in notebook.cells if cell.cell_type == "code"
    )
    assert len(pictures) == shown >= 4
    (page,) = [*tmp_path.rglob("side-by-side.html"), *tmp_path.rglob("report.html")][:1]
    assert page.stat().st_size > 10_000
