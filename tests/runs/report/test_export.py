"""Every figure as files: pictures that stand alone, and the numbers that they show."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.testing import CliRunner

from regl_app.cli import app
from regl_app.config import RunConfig
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import FederationFacts, GlobalMetrics, RoundRecord
from regl_app.runs.report.build import build_report

RunMaker = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def figures(make_run: RunMaker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the figures of a run that has everything, its report beside them."""
    folder = tmp_path_factory.mktemp("figures")
    run = make_run(folder, method="regl-dpd", rounds=4)
    build_report([run], folder / "report.html", folder / "figures")
    return folder / "figures"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_figure_of_the_page_is_there_with_its_numbers(figures: Path) -> None:
    page = (figures.parent / "report.html").read_text()
    ids = set(re.findall(r'<figure id="([^"]+)"', page))
    assert len(ids) == 18
    for ending in ("svg", "csv"):
        assert {path.stem for path in figures.glob(f"*.{ending}")} == ids
    assert all(rows(path) for path in figures.glob("*.csv"))


def test_pictures_need_neither_page_nor_variables(figures: Path) -> None:
    for path in figures.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert "var(" not in text, path.name
        assert "class=lack" not in text
        assert root.find(f"{SVG}title").text  # type: ignore[union-attr]
        # No picture sticks out, none lies on another.
        wide, tall = float(root.get("width", 0)), float(root.get("height", 0))
        boxes = [
            tuple(float(one.get(name, 0)) for name in ("x", "y", "width", "height"))
            for one in root.findall(f"{SVG}svg")
        ]
        assert boxes, path.name
        assert all(x + w <= wide and y + h <= tall for x, y, w, h in boxes)
        assert not any(
            ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah
            for index, (ax, ay, aw, ah) in enumerate(boxes)
            for bx, by, bw, bh in boxes[:index]
        )


def test_numbers_are_those_of_the_history(figures: Path) -> None:
    history = RunFolder.open(next(figures.parent.glob("regl-dpd*"))).read_history()
    told = [
        float(row["value"])
        for row in rows(figures / "accuracy.csv")
        if row["line"] == "global accuracy"
    ]
    assert told == [record.metrics.accuracy for record in history]
    confusion = history[-1].metrics.confusion
    assert confusion is not None
    last = [row for row in rows(figures / "confusion.csv") if row["round"] == "4"]
    assert [int(row["images"]) for row in last] == [value for row in confusion for value in row]
    assert (last[12]["true class"], last[12]["taken for"]) == ("1", "2")
    table = rows(figures / "scores.csv")
    assert [float(row["f1"]) for row in table] == history[-1].metrics.f1
    # A client that did not answer has no cells; others have one of each class.
    silent = [row for row in rows(figures / "discrepancy.csv") if row["round"] == "4"]
    assert {row["client"] for row in silent} == set("012456789")


def test_names_of_any_script_are_text_in_every_file(tmp_path: Path) -> None:
    names = ["<b>&\"'", "猫,\n犬", "ab\x00\x1b", "=1+1"]
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    folder.write_facts(FederationFacts(class_names=names, num_clients=1, train_counts=[[1] * 4]))
    metrics = GlobalMetrics(
        accuracy=0.5,
        macro_f1=0.5,
        per_class=[0.5, 1.0, None, 0.0],
        precision=[0.5, 1.0, None, None],
        f1=[0.5, 1.0, None, 0.0],
        confusion=[[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]],
    )
    folder.append_round(RoundRecord(round=1, metrics=metrics))
    page = build_report([folder.path], tmp_path / "r.html", tmp_path / "figures").read_text()
    assert "<b>&\"'" not in page
    assert "&lt;b&gt;&amp;" in page
    drawn = ElementTree.parse(tmp_path / "figures" / "scores.svg").getroot()
    assert any("猫" in (text.text or "") for text in drawn.iter(f"{SVG}text"))
    told = rows(tmp_path / "figures" / "scores.csv")
    assert [row["class"] for row in told] == names
    assert told[2] == {"class": names[2], "precision": "", "recall": "", "f1": ""}


def test_of_many_classes_the_most_confused_are_shown_and_all_are_told(tmp_path: Path) -> None:
    import numpy as np

    from regl_app.runs.confusions import keep_confusion

    size = 120
    counts = np.eye(size, dtype=np.int64) * 5
    counts[7, 99] = 3
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    names = [f"class {label}" for label in range(size)]
    folder.write_facts(FederationFacts(class_names=names, num_clients=1, test_images=600))
    keep_confusion(folder.path, 1, counts)
    metrics = GlobalMetrics(accuracy=0.9, macro_f1=0.9, per_class=[1.0] * size)
    folder.append_round(RoundRecord(round=1, metrics=metrics))
    page = build_report([folder.path], tmp_path / "r.html", tmp_path / "figures").read_text()
    assert "Shown are the 40 of 120 classes that most errors are about" in page
    assert "class 7 taken for class 99, 3 times" in page
    assert len(rows(tmp_path / "figures" / "confusion.csv")) == size**2


def test_png_files_show_what_the_svg_files_do(figures: Path, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    for path in figures.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        with Image.open(path.with_suffix(".png")) as picture:
            assert picture.width == pytest.approx(2 * float(root.get("width", 0)), abs=2)
            assert len(picture.convert("RGB").getcolors(2**24) or ()) > 20  # not blank


def test_without_the_package_the_rest_is_written_and_the_extra_named(
    make_run: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    run = make_run(tmp_path, method="fedavg", rounds=1, bare=True)
    done = CliRunner().invoke(app, ["report", str(run), "--figures", str(tmp_path / "figures")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "figures" / "accuracy.svg").is_file()
    assert not list((tmp_path / "figures").glob("*.png"))


def test_figures_of_several_runs_keep_apart(make_run: RunMaker, tmp_path: Path) -> None:
    runs = [make_run(tmp_path, method=name, rounds=1, bare=True) for name in ("fedavg", "regl")]
    build_report(runs, tmp_path / "r.html", tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").glob("*.svg")}
    assert {"compare-accuracy.svg", "run1-accuracy.svg", "run2-accuracy.svg"} <= names


def test_a_folder_that_cannot_be_written_is_named(make_run: RunMaker, tmp_path: Path) -> None:
    run = make_run(tmp_path, method="fedavg", rounds=1, bare=True)
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["report", str(run), "--figures", str(tmp_path / "file")])
    assert done.exit_code != 0
    assert "--figures=" in str(done.exception or "") + done.output
