"""Runs of one configuration are found by what can change a result, and each seed counts once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.runs.folder import RunFolder
from regl_app.runs.records import RunResult
from regl_app.runs.report.build import build_report
from regl_app.runs.report.conditions import Condition, conditions
from regl_app.runs.report.run_data import RunData

RunMaker = Callable[..., Path]


def grouped(*runs: Path) -> list[Condition]:
    return conditions([RunData.load(run) for run in runs])


def finished(path: Path, at: int) -> Path:
    RunFolder.open(path).write_result(RunResult(status="finished", seconds=1.0))
    os.utime(path / "result.json", (at, at))
    return path


def compared(folder: Path, rows: dict[str, str]) -> None:
    """Write what a comparison leaves: which row each run is of."""
    outcomes = [{"method": row, "folder": f"elsewhere/{name}"} for name, row in rows.items()]
    (folder / "comparison.json").write_text(json.dumps({"outcomes": outcomes}))


def test_what_has_no_effect_makes_no_other_configuration(
    make_run: RunMaker, tmp_path: Path
) -> None:
    few = {"bare": True, "rounds": 1}
    runs = [
        make_run(tmp_path, method="fedavg", seed=0, supplement__cap=20, **few),
        make_run(tmp_path, method="fedavg", seed=1, supplement__cap=40, **few),
        make_run(tmp_path, method="regl-free", supplement__cap=20, lora__rank=4, **few),
        make_run(tmp_path, method="regl-free", seed=1, supplement__cap=40, **few),
    ]
    assert [(group.label, len(group.runs)) for group in grouped(*runs)] == [
        ("fedavg", 2),
        ("regl-free (cap 20)", 1),
        ("regl-free (cap 40)", 1),
    ]


def test_of_one_method_with_and_without_supplement_that_is_told(
    make_run: RunMaker, tmp_path: Path
) -> None:
    runs = [
        make_run(tmp_path, method="regl", labels__by="hard", bare=True, rounds=1, **keys)
        for keys in ({"supplement__cap": 0}, {"supplement__cap": 20})
    ]
    assert [group.label for group in grouped(*runs)] == ["regl", "regl (cap 20)"]


def test_runs_with_other_generators_under_one_path_are_told_apart(
    make_run: RunMaker, tmp_path: Path
) -> None:
    runs = [make_run(tmp_path, method="regl", bare=True, rounds=1, seed=seed) for seed in (0, 1)]
    assert [group.label for group in grouped(*runs)] == ["regl"]
    RunFolder.open(runs[1]).note("generator", "of the release before")
    told = [group.label for group in grouped(*runs)]
    assert len(set(told)) == 2 and "of the release before" in told[1]
    RunFolder.open(runs[1]).note("generator", "")  # as an early version left it
    assert len({group.label for group in grouped(*runs)}) == 2


def test_a_comparisons_rows_are_called_as_there(make_run: RunMaker, tmp_path: Path) -> None:
    few = {"bare": True, "rounds": 1, "method": "fedavg"}
    runs = [
        make_run(tmp_path, name="dyn-s0", objective="fedprox", train__proximal=0.1, **few),
        make_run(tmp_path, name="plain-s0", **few),
    ]
    before = [group.label for group in grouped(*runs)]
    assert before == [
        "fedavg (objective fedprox, proximal 0.1)",
        "fedavg (objective fedavg, proximal 0.01)",
    ]
    compared(tmp_path, {"dyn-s0": "dyn", "plain-s0": "<i>plain</i>"})
    assert [group.label for group in grouped(*runs)] == ["dyn", "<i>plain</i>"]
    html = build_report(runs, tmp_path / "r.html").read_text()
    assert "&lt;i&gt;plain" in html and "<i>plain" not in html
    (tmp_path / "comparison.json").write_text("[1, 2]")
    assert [group.label for group in grouped(*runs)] == before


def test_rows_that_are_called_alike_in_two_comparisons_are_told_by_their_settings(
    make_run: RunMaker, tmp_path: Path
) -> None:
    runs = []
    for folder, steps in ((tmp_path / "a", 3), (tmp_path / "b", 4)):
        keys = {"bare": True, "rounds": 1, "method": "fedavg", "train__steps": steps}
        runs.append(make_run(folder, name="mine-s0", **keys))
        compared(folder, {"mine-s0": "mine"})
    assert [group.label for group in grouped(*runs)] == ["fedavg (steps 3)", "fedavg (steps 4)"]


def test_of_two_runs_with_the_same_seeds_the_later_one_counts(
    make_run: RunMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = {"bare": True, "rounds": 2, "method": "fedavg"}
    later, first = (finished(make_run(tmp_path, **few), at) for at in (2000, 1000))
    unfinished = make_run(tmp_path, **few)
    (unfinished / "result.json").unlink()
    split = finished(make_run(tmp_path, data__seed=1, **few), 500)
    with caplog.at_level("WARNING", logger="regl"):
        (group,) = grouped(later, first, unfinished, split)
    assert [run.name for run in group.runs] == [later.name, split.name]
    assert {run.name for run in group.left_out} == {first.name, unfinished.name}
    assert f"{first.name} and {later.name} are one configuration with the same seeds" in caplog.text
    html = build_report([later, first, split], tmp_path / "r.html").read_text()
    table = html[html.index('id="comparison"') : html.index('id="curves"')]
    assert "2 seeds, 1 older of the same seed left out" in table
    alone = build_report([later, first], tmp_path / "r.html").read_text()
    assert "One run per configuration" in alone and "2 seeds" not in alone
