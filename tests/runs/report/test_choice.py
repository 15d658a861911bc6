"""Runs that chose among their rounds, and runs whose learning rate changes, in the report."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.config.learning_rates import learning_rate
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

ACCURACIES = (0.2, 0.5, 0.85, 0.7, 0.6)
VALIDATION: dict[str, Scalar] = {"validation.fraction": 0.2, "validation.patience": 3}
SCHEDULE: dict[str, Scalar] = {"train.schedule": "cosine", "train.warmup-rounds": 1}


def folder_of(
    out: Path, name: str, *, best: int | None, kept: int | None, rounds_run: int = 4, **keys: Scalar
) -> Path:
    """Write a run of four rounds, or of some of them."""
    flat: dict[str, Scalar] = {"method": "fedavg", "rounds": 4, "name": name, **keys}
    config = RunConfig.from_flat(flat)
    folder = RunFolder.create(config, out)
    folder.write_facts(FederationFacts(class_names=["cat", "dog"], num_clients=2, test_images=20))
    for number, share in enumerate(ACCURACIES[: rounds_run + 1]):
        scores = ValidationScores(images=8, accuracy=share, loss=1 - share)
        rate = learning_rate(config.train, number, config.rounds) if number else None
        wrong = round(10 * (1 - share))
        folder.append_round(
            RoundRecord(
                round=number,
                metrics=GlobalMetrics(
                    accuracy=share,
                    macro_f1=share,
                    loss=1 - share,
                    per_class=[share, 1 - share],
                    precision=[share, share],
                    f1=[share, share - 0.125],
                    confusion=[[10 - wrong, wrong], [0, 10]],
                ),
                personalized=Personalized(mean=share, per_client={0: share, 1: share})
                if number
                else None,
                validation=scores if number and config.validation.used else None,
                lr=rate if config.train.scheduled else None,
            )
        )
    folder.write_result(
        RunResult(status="finished", seconds=5.0, best_round=best, model_round=kept)
    )
    return folder.path


def figure(html: str, name: str) -> str:
    found = re.search(f'<figure id="{name}".*?</figure>', html, flags=re.S)
    assert found is not None, name
    return found[0]


def caption(html: str, name: str) -> str:
    found = re.search(r"<figcaption>(.*?)</figcaption>", figure(html, name), flags=re.S)
    assert found is not None
    return found[1]


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    out = tmp_path_factory.mktemp("choice")

    def make(name: str, best: int | None, kept: int | None, **keys: Scalar) -> str:
        path = folder_of(out, name, best=best, kept=kept, **keys)
        return build_report([path], path / "report.html", path / "figures").read_text()

    return make


def test_the_kept_round_is_the_result_and_is_marked(report: Callable[..., str]) -> None:
    html = report("best", 2, 2, **VALIDATION, **{"validation.keep": "best", "rounds": 9})
    assert "reaches <em>85.0 %</em>" in html
    assert "Global accuracy, round 2, kept" in html
    assert "last round 60.0 %" in html
    said = text(html)
    assert "Its model is that of round 2, the best by validation images." in said
    early = "It ended early, after round 4 of 9: 3 rounds brought no better validation accuracy."
    assert said.count(early) == 4  # above, and in three captions
    for name in ("accuracy", "personalized", "loss"):
        assert "Marked: round 2, the best by validation images; its model is kept." in caption(
            html, name
        )
        assert re.search('class="mark".*>best, kept<', figure(html, name)), name
    assert "validation accuracy" in figure(html, "accuracy")
    assert "validation loss" in figure(html, "loss")
    assert "<b>85.0 %</b> in round 2 (kept)" in caption(html, "personalized")
    assert "weakest in round 2 (kept): <b>dog</b> (15.0 %)" in caption(html, "recall")
    assert "weakest class is <b>dog</b>, with 15 %" in html
    assert "after round 2 (kept)" in caption(html, "scores")
    assert "Most often: cat taken for dog, 2 times in round 2." in caption(html, "confusion")
    assert "best by validation images, kept" in figure(html, "confusion")
    (row,) = re.findall(r"<tr><td>2 \(best, kept\)</td>.*?</tr>", html)
    assert row.count("85.00 %") == 4  # accuracy, macro-F1, personalized, validation
    (of_cat,) = re.findall(r"<tr><td>cat</td>.*?</tr>", html)
    assert "<td>85.00 %</td>" in of_cat and "dog (2)" in of_cat


def test_the_last_round_may_be_kept_though_another_is_the_best(report: Callable[..., str]) -> None:
    html = report("last", 2, 4, **VALIDATION)
    assert "reaches <em>60.0 %</em>" in html
    kept = "Marked: round 2, the best by validation images; the model that is kept is the last one"
    assert kept in caption(html, "accuracy")
    assert re.search('class="mark".*>best<', figure(html, "accuracy"))
    assert "ended early" not in html
    assert "in the end" in caption(html, "personalized")
    assert "<td>2 (best)</td>" in html and "<td>4 (kept)</td>" in html


def test_a_run_without_validation_marks_nothing(report: Callable[..., str]) -> None:
    html = report("plain", None, None)
    assert "reaches <em>60.0 %</em>" in html
    for word in ("Marked", "(kept)", 'class="mark"', "validation images", "ended early"):
        assert word not in html, word
    assert "Final global accuracy" in html
    assert 'id="rate"' not in html
    assert "Learning rate per round" not in html


def test_the_rate_of_every_round_is_drawn_listed_and_in_the_csv(
    report: Callable[..., str], tmp_path: Path
) -> None:
    keys = SCHEDULE | {"rounds": 4, "train.lr": 0.4}
    html = report("scheduled", None, None, **keys)
    config = RunConfig.from_flat({"method": "fedavg"} | keys)
    rates = [learning_rate(config.train, number, 4) for number in range(1, 5)]
    assert len(set(rates)) > 1
    assert "train.schedule=cosine" in caption(html, "rate")
    assert "1 round of warm-up" in text(caption(html, "rate"))
    path = folder_of(tmp_path, "again", best=None, kept=None, **keys)
    build_report([path], tmp_path / "report.html", tmp_path / "figures")
    with (tmp_path / "figures" / "rate.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["round"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["value"]) for row in rows] == pytest.approx(rates)
    head = re.findall(r"<th>(.*?)</th>", html)
    assert "rate" in head
    for number, rate in enumerate(rates, start=1):
        assert re.search(rf"<tr><td>{number}</td>.*<td>{rate:.3g}</td></tr>", html)


def test_runs_side_by_side_are_compared_by_what_they_keep(tmp_path: Path) -> None:
    best = {**VALIDATION, "validation.keep": "best"}
    paths = [
        folder_of(tmp_path, "best", best=2, kept=2, **best),
        folder_of(tmp_path, "plain", best=None, kept=None),
    ]
    html = build_report(paths, tmp_path / "report.html").read_text()
    assert re.search(r"<h1>.* at <em>85.0 %</em>, 25.0 points above .* in one run of each<", html)
    assert "<th>accuracy, kept</th>" in html
    assert "best round kept, 2" in html
    assert "Ringed: the round whose model a run keeps" in caption(html, "compare-accuracy")
    assert "mean of the others" not in html
    more: dict[str, Scalar] = {"seed": 1, "train.lr": 0.05}
    short = folder_of(tmp_path, "short", best=None, kept=None, rounds_run=2, **more)
    both = build_report([paths[1], short], tmp_path / "both.html").read_text()
    assert "later rounds are the mean of the others" in caption(both, "compare-loss")
    plain = build_report(paths[1:] * 2, tmp_path / "two.html").read_text()
    assert "<th>final accuracy</th>" in plain
    assert "Ringed" not in plain
