"""Which runs are held against each other: finished, on the same data, by what means something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core.formats import NONE
from regl_app.core.types import Scalar
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import (
    FederationFacts,
    GlobalMetrics,
    Personalized,
    RoundRecord,
    RunResult,
    ValidationScores,
)
from regl_app.runs.report.build import build_report
from regl_app.runs.report.figures import curves
from regl_app.runs.report.figures.base import Figure
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.run_words import rows as round_rows
from regl_app.runs.report.run_words import tiles

FACTS = FederationFacts(class_names=["a", "b"], num_clients=2, test_images=9)


def write(
    out: Path,
    method: str,
    reached: float,
    status: str = "finished",
    *,
    rounds: int = 6,
    facts: FederationFacts | None = FACTS,
    **keys: Scalar,
) -> Path:
    """Write a run whose global model ends at ``reached``, up to 0.1 above at the clients."""
    named = {key.replace("__", "."): value for key, value in keys.items()}
    config = RunConfig.from_flat({"method": method, "rounds": 6} | named)
    folder = RunFolder.create(config, out)
    if facts is not None:
        folder.write_facts(facts)
    clients = Personalized(mean=min(reached + 0.1, 1.0), per_client={0: reached})
    for number in range(1, rounds + 1):
        metrics = GlobalMetrics(accuracy=reached, macro_f1=reached / 2, loss=1.0)
        folder.append_round(RoundRecord(round=number, metrics=metrics, personalized=clients))
    if status:
        folder.write_result(RunResult.model_validate({"status": status, "seconds": 5.0}))
    return folder.path


def told(runs: list[Path], out: Path) -> tuple[str, str, list[list[str]], str]:
    """Return a report's headline, the sentences below, its table's cells, and all of it."""
    html = build_report(runs, out / "report.html").read_text(encoding="utf-8")
    table = html[html.index('id="comparison"') : html.index('id="curves"')]
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.S)[1:]
    plain = [
        [
            " ".join(re.sub("<.*?>", "", cell).split())
            for cell in re.findall("<td>.*?</td>", row, re.S)
        ]
        for row in rows
    ]
    heads = re.findall(r'<h1>(.*?)</h1>|<p class="lede">(.*?)</p>', html, flags=re.S)
    words = [" ".join(re.sub("<.*?>", "", one or two).split()) for one, two in heads]
    return words[0], words[1], plain, html


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        ("failed", "failed in round 2 of 6"),
        ("stopped", "was stopped in round 2 of 6"),
        ("", "round 2 of 6"),
    ],
)
def test_a_run_that_has_not_finished_counts_for_nothing_and_is_marked(
    status: str, mark: str, tmp_path: Path
) -> None:
    runs = [
        write(tmp_path, "fedavg", 0.9, seed=0),
        write(tmp_path, "fedavg", 0.3, status, rounds=2, seed=1),
        write(tmp_path, "regl", 0.8, seed=0),
        write(tmp_path, "moon", 0.99, status, rounds=2, seed=0),
    ]
    headline, lede, rows, html = told(runs, tmp_path)
    assert headline == "fedavg ends at 90.0 %, 10.0 points above regl in one run of each"
    assert "2 runs have not finished and do not count." in lede
    assert rows[0][:2] == [f"fedavg seed 1: {mark}", "90.0 %"]
    assert rows[2][:2] == [f"moon {mark}", NONE]
    assert rows[2][5] == NONE
    curve = html[html.index('id="compare-accuracy"') : html.index('id="compare-loss"')]
    assert "fedavg\nround 2: 90 %" in curve
    assert "moon (not finished)\nround 2: 99 %" in curve


def test_runs_of_other_classes_or_test_images_are_on_different_data(tmp_path: Path) -> None:
    others = {
        "classes": FACTS.model_copy(update={"class_names": ["a", "c"]}),
        "tests": FACTS.model_copy(update={"test_images": 10}),
    }
    for name, facts in others.items():
        out = tmp_path / name
        runs = [write(out, "fedavg", 0.9), write(out, "regl", 0.8, facts=facts)]
        headline, lede, _, _ = told(runs, out)
        assert headline == "2 configurations on different data"
        assert "points" not in lede
    runs = [write(tmp_path, "fedavg", 0.9), write(tmp_path, "regl", 0.8, facts=None)]
    assert "10.0 points above regl" in told(runs, tmp_path)[0]  # nothing is known to differ


@pytest.mark.parametrize(("source", "same"), [("hub", False), ("folder", True)])
def test_another_hub_set_is_other_data_and_a_folder_may_lie_elsewhere(
    source: str, same: bool, tmp_path: Path
) -> None:
    runs = [
        write(tmp_path, method, 0.9, data__source=source, data__path=path)
        for method, path in (("fedavg", "one/set"), ("moon", "other/set"))
    ]
    assert ("different data" not in told(runs, tmp_path)[0]) is same


def test_a_method_that_leaves_parts_at_clients_is_judged_there(tmp_path: Path) -> None:
    runs = [write(tmp_path, "fedavg", 0.7), write(tmp_path, "fedrep", 0.75)]
    headline, lede, rows, html = told(runs, tmp_path)
    assert headline == (
        "fedrep ends at 85.0 % at the clients, 5.0 points above fedavg in one run of each"
    )
    assert "Compared by accuracies at the clients: fedrep has no whole global model." in lede
    assert rows[0][1:5] == ["70.0 %", "35.0 %", "80.0 %", "never"]
    assert rows[1][1:5] == [NONE, NONE, "85.0 %", NONE]
    curve = html[html.index('id="compare-accuracy"') : html.index('id="compare-personalized"')]
    assert "Without fedrep: no whole global model." in curve and "fedrep\nround" not in curve
    assert "85.0 % at its clients</span></summary>" in html
    shown = tiles(RunData.load(runs[1]))
    assert (shown[0].label, shown[0].value) == ("Personalized accuracy, mean of clients", "85.0")
    assert [(one.label, one.value) for one in shown[1:4]] == [
        ("Macro-F1, all classes the same weight", NONE),
        ("Global accuracy", NONE),
        ("Rounds to 90 % accuracy", NONE),
    ]


def test_a_page_of_such_a_run_shows_no_figure_of_its_global_model(tmp_path: Path) -> None:
    path = write(tmp_path, "fedrep", 0.75)
    folder = RunFolder.open(path)
    counts = [[3, 1], [1, 3]]
    scored = GlobalMetrics(
        accuracy=0.123, macro_f1=0.234, loss=3.45, per_class=[0.123, 0.4],
        precision=[0.5, 0.5], f1=[0.2, 0.4], confusion=counts,
    )  # fmt: skip
    clients = Personalized(mean=0.85, per_client={0: 0.85})
    folder.append_round(RoundRecord(round=6, metrics=scored, personalized=clients))
    run = RunData.load(path)
    assert run.summary.personalized == 0.85
    html = build_report([path], tmp_path / "report.html").read_text(encoding="utf-8")
    for figure in ("accuracy", "loss", "recall", "confusion", "scores"):
        assert f'id="{figure}"' not in html, figure
    assert 'id="personalized"' in html
    assert "no whole global model" in html
    told = " ".join(re.findall(r"(?s)<table.*?</table>|<figcaption.*?</figcaption>", html))
    assert "85.0" in told
    assert not [number for number in ("12.3", "23.4", "3.45") if number in told]
    row = round_rows(run)[-1]
    assert row[:5] == ["6", NONE, NONE, NONE, "85.00 %"]


def test_of_such_a_run_validation_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "fedrep", 0.75, validation__fraction=0.2, validation__keep="last")
    held_out = ValidationScores(accuracy=0.8, loss=0.5, images=9)
    record = RunData.load(path).history[-1].model_copy(update={"validation": held_out})
    RunFolder.open(path).append_round(record)
    run = RunData.load(path)
    found = curves.accuracy(run, "")
    assert isinstance(found, Figure)
    assert "validation accuracy" in str(found.body) and "global" not in str(found.body)
    assert "with their own parts" in found.caption
    lost = curves.loss(run, "")
    assert isinstance(lost, Figure)
    assert "validation loss" in str(lost.body) and "test loss" not in str(lost.body)
