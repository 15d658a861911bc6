"""Lines of many rounds and of many configurations can be told apart."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import FederationFacts, GlobalMetrics, RoundRecord
from regl_app.runs.report.conditions import Condition
from regl_app.runs.report.figures import curves
from regl_app.runs.report.figures.base import Figure
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.standalone import standalone_svg


def run_of(folder: Path, rounds: int, classes: int = 3, **keys: str) -> RunData:
    made = RunFolder.create(RunConfig.from_flat({"method": "fedavg"} | keys), folder)
    names = [f"class {label}" for label in range(classes)]
    made.write_facts(FederationFacts(class_names=names, num_clients=2, test_images=9))
    for number in range(rounds + 1):
        share = number / rounds
        metrics = GlobalMetrics(accuracy=share, macro_f1=share / 2, per_class=[share] * classes)
        made.append_round(RoundRecord(round=number, metrics=metrics))
    return RunData.load(made.path)


def figure_of(made: object) -> Figure:
    assert isinstance(made, Figure)
    return made


def test_dots_of_many_rounds_are_not_seen_but_still_tell(tmp_path: Path) -> None:
    few = str(figure_of(curves.accuracy(run_of(tmp_path, 20), "")).body)
    many = str(figure_of(curves.accuracy(run_of(tmp_path, 80), "")).body)
    assert len(re.findall('class="dot"', few)) == 2 * 21
    assert 'class="dot"' not in many
    assert len(re.findall('class="dot quiet"', many)) == 2 * 81
    assert "macro-F1\nround 80: 50 %" in many
    assert len(set(re.findall(r'<path [^>]*style="(stroke:[^"]+)"', many))) == 2


def test_what_is_known_of_few_rounds_of_many_has_its_dots(tmp_path: Path) -> None:
    run = run_of(tmp_path, 80)
    last = run.history[-1]
    validated = last.model_copy(update={"validation": last.metrics})
    run = replace(run, history=(*run.history[:-1], validated))
    body = str(figure_of(curves.accuracy(run, "")).body)
    assert len(re.findall('class="dot"', body)) == 1


def test_recall_of_many_rounds_names_some_and_is_no_wider_than_a_page(tmp_path: Path) -> None:
    for rounds, shown in ((10, 11), (50, 51), (500, 100)):
        figure = figure_of(curves.recall(run_of(tmp_path, rounds), ""))
        places = re.findall(r'<text x="([\d.]+)" y="[\d.]+" class="tick mid">(\d+)<', figure.body)
        names = [int(name) for _, name in places]
        assert names[0] == 0 and names == sorted(names)
        assert figure.body.count('class="cell"') == 3 * shown
        # No number lies on its neighbour.
        for (left, name), (right, other) in pairwise(places):
            assert float(right) - float(left) > 3.2 * (len(name) + len(other))
        width = re.search(r' width="(\d+)', standalone_svg(figure))
        assert width is not None and int(width[1]) < 1100
        assert len(figure.numbers.rows) == 3 * (rounds + 1)
        assert (f"100 of {rounds + 1} rounds" in figure.caption) is (rounds == 500)
        assert f"round {rounds}: 100.0 %" in figure.body


def test_configurations_of_one_colour_have_other_dashes(tmp_path: Path) -> None:
    run = run_of(tmp_path, 2)
    groups = [Condition(f"row {index}", (run,)) for index in range(20)]
    figure = figure_of(
        curves.overlay(groups, "a", "A", lambda r: r.metrics.accuracy, share=True, says="")
    )
    lines = re.findall(r'<path [^>]*style="stroke:([^"]+)" class="(line[^"]*)"', figure.body)
    chips = re.findall(r'<i class="([^"]+)" style="--k:([^"]+)">', figure.body)
    assert len(set(lines)) == len(set(chips)) == 20
    alone = standalone_svg(figure)
    drawn = re.findall(r'<path d="M[\d. ]+h20"[^>]*/>', alone)
    looks = [re.sub(r' d="[^"]*"', "", one) for one in drawn]
    assert len(set(looks)) == 20
