"""Who ends above whom: told by seeds and splits that both have, and not where it may be chance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import GlobalMetrics, RoundRecord, RunResult
from regl_app.runs.report.build import build_report

Runs = dict[str, dict[tuple[int, int], float]]
"""By method, where its runs ended by seed and split."""


def told(out: Path, runs: Runs) -> tuple[str, str]:
    """Return a report's first line and the sentences below it, without tags."""
    paths = []
    for method, ends in runs.items():
        for (seed, split), accuracy in ends.items():
            keys: dict[str, Scalar] = {"method": method, "seed": seed, "data.seed": split}
            folder = RunFolder.create(RunConfig.from_flat(keys | {"rounds": 1}), out)
            metrics = GlobalMetrics(accuracy=accuracy, macro_f1=accuracy, loss=1.0, per_class=[])
            folder.append_round(RoundRecord(round=1, metrics=metrics))
            folder.write_result(RunResult(status="finished", seconds=1.0))
            paths.append(folder.path)
    html = build_report(paths, out / "report.html").read_text(encoding="utf-8")
    (headline,) = re.findall(r"<h1>(.*?)</h1>", html, flags=re.S)
    (lede,) = re.findall(r'<p class="lede">(.*?)</p>', html, flags=re.S)
    return re.sub("<.*?>", "", headline), " ".join(re.sub("<.*?>", "", lede).split())


def seeds(values: Sequence[float], split: int | None = None) -> dict[tuple[int, int], float]:
    return {
        (seed, seed if split is None else split): value
        for seed, value in enumerate(values)
        if value == value
    }


MISSING = float("nan")


def test_what_is_above_with_every_seed_leads_though_means_overlap(tmp_path: Path) -> None:
    ends = {"fedavg": seeds([0.5, 0.7, 0.9], 0), "regl": seeds([0.51, 0.71, 0.912], 0)}
    headline, lede = told(tmp_path, ends)
    assert headline == "regl leads with 71.1 %"
    assert "regl ends 1.1 ± 0.3 points above plain FedAvg (70.0 %)." in lede
    assert "same seeds" not in lede


def test_what_may_be_chance_does_not_lead(tmp_path: Path) -> None:
    ends = {"fedavg": seeds([0.5, 0.6]), "regl": seeds([0.7, 0.61]), "regl-free": seeds([0.7, 0.6])}
    headline, lede = told(tmp_path, ends)
    assert headline == "regl ends at 65.5 %, within chance of regl-free and fedavg"
    assert "regl ends 10.5 ± 120.7 points above plain FedAvg (55.0 %)." in lede


def test_a_lost_run_moves_no_difference(tmp_path: Path) -> None:
    ends = {"fedavg": seeds([0.90, MISSING, 0.94]), "regl": seeds([0.90, 0.95, 0.94])}
    headline, lede = told(tmp_path, ends)
    assert headline == "regl ends at 93.0 %, level with fedavg"
    assert "Not all have the same seeds or splits: fedavg lacks seed 1 of split 1." in lede
    assert "regl ends level with plain FedAvg (92.0 %), over 2 seeds in common." in lede


def test_runs_on_other_splits_are_not_ranked(tmp_path: Path) -> None:
    ends: Runs = {"fedavg": {(0, 3): 0.9}, "regl": {(0, 4): 0.905}}
    headline, lede = told(tmp_path, ends)
    assert headline == "2 configurations of unlike seeds or splits"
    assert "fedavg lacks seed 0 of split 4, regl lacks seed 0 of split 3." in lede
    assert "points" not in lede and "plain FedAvg" not in lede


@pytest.mark.parametrize("count", [1, 2])
def test_an_exact_tie_leads_nobody(tmp_path: Path, count: int) -> None:
    ends = {"fedavg": seeds([0.9, 0.8][:count]), "regl": seeds([0.9, 0.8][:count])}
    headline, lede = told(tmp_path, ends)
    assert headline == f"fedavg ends at {(90.0, 85.0)[count - 1]:.1f} %, level with regl"
    assert "points" not in lede
    assert '<tr class="best">' not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_one_run_of_each_says_the_difference_and_that_it_is_one_run(tmp_path: Path) -> None:
    ends = {"fedavg": seeds([0.9]), "regl": seeds([0.96]), "central": seeds([0.98])}
    headline, lede = told(tmp_path, ends)
    assert headline == "regl ends at 96.0 %, 6.0 points above fedavg in one run of each"
    assert "regl ends 6.0 points above plain FedAvg (90.0 %) and 2.0 points below all data" in lede
    assert '<tr class="best">' in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_difference_of_some_seeds_stands_beside_no_mean_of_others(tmp_path: Path) -> None:
    ends = {"regl": seeds([0.96, 0.6, 0.6]), "fedavg": seeds([0.95])}
    headline, _ = told(tmp_path, ends)
    assert headline == "regl ends 1.0 points above fedavg in one run of each"


def test_all_that_are_level_are_named(tmp_path: Path) -> None:
    headline, _ = told(tmp_path, {name: seeds([0.5]) for name in ("regl", "fedavg", "moon")})
    assert "level with " in headline and " and " in headline
