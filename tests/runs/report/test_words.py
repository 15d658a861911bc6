"""What a report says is so: of which round, of which clients, how the run ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pytest

from regl_app.config import RunConfig
from regl_app.core.formats import NONE
from regl_app.core.types import Scalar
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import (
    FederationFacts,
    GlobalMetrics,
    PhaseSeconds,
    RoundRecord,
    RunResult,
)
from regl_app.runs.report.build import build_report
from regl_app.runs.report.figures import labels, timing
from regl_app.runs.report.figures.base import Figure
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.run_words import columns, key_settings, rows, tiles
from regl_app.runs.report.standalone import standalone_svg
from regl_app.supplement.privacy import budget_words, epsilon

METRICS = GlobalMetrics(accuracy=0.5, macro_f1=0.5)


def test_synthetic_images_are_those_of_the_round(tmp_path: Path) -> None:
    """Of clients that are sampled, each round has others."""
    folder = RunFolder.create(RunConfig.from_flat({"method": "regl"}), tmp_path)
    folder.write_facts(
        FederationFacts(class_names=["a", "b"], num_clients=3, train_counts=[[9, 1], [5, 5], None])
    )
    folder.append_round(RoundRecord(round=0, metrics=METRICS))
    made: tuple[list[list[int] | None], ...] = (
        [[100, 128], None, None],
        [None, [40, 4], None],
        [[60, 0], None, [30, 6]],
    )
    for number, counts in enumerate(made, start=1):
        folder.append_round(RoundRecord(round=number, metrics=METRICS, synthetic_counts=counts))
    run = RunData.load(folder.path)
    place = columns(run).index("synthetic")
    assert [row[place] for row in rows(run)] == [NONE, "228", "44", "96"]
    (tile,) = [tile for tile in tiles(run) if tile.label.startswith("Synthetic images")]
    assert (tile.value, tile.note) == ("228", "beside 10 real ones")


def test_whose_seconds_are_shown_is_said(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    spent = [1.0 + (client == 191) + client / 1000 for client in range(200)]
    for number in (1, 2):
        seconds = PhaseSeconds(clients={"train": spent}, server={}, wall=5.0)
        folder.append_round(RoundRecord(round=number, metrics=METRICS, seconds=seconds))
    figure = timing.per_client(RunData.load(folder.path), "")
    assert isinstance(figure, Figure)
    assert "Shown are the 40 of 200 clients that worked longest." in figure.caption
    shown = re.findall(r'class="tick end">client (\d+)<', figure.body)
    assert shown == [str(k) for k in (*range(160, 200),)]
    assert len({row[0] for row in figure.numbers.rows}) == 200


def test_the_first_round_is_the_first_in_which_clients_work(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "regl"}), tmp_path)
    taught = PhaseSeconds(clients={}, server={"teach": 2.0}, wall=2.0)
    folder.append_round(RoundRecord(round=0, metrics=METRICS, seconds=taught))
    for number, spent in ((1, 9.0), (2, 1.0)):
        seconds = PhaseSeconds(clients={"adapt": [spent]}, server={}, wall=spent)
        folder.append_round(RoundRecord(round=number, metrics=METRICS, seconds=seconds))
    figure = timing.per_round(RunData.load(folder.path), "")
    assert isinstance(figure, Figure)
    assert "The first round is the longest" in figure.caption


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize(
    ("status", "words"), [("failed", "The run failed."), ("stopped", "The run was stopped.")]
)
def test_how_a_run_ended_is_told_as_it_was(
    status: Literal["failed", "stopped"], words: str, rounds: int, tmp_path: Path
) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    for number in range(rounds):
        folder.append_round(RoundRecord(round=number, metrics=METRICS))
    folder.write_result(RunResult(status=status, seconds=1.0, error="the reason"))
    html = build_report([folder.path], tmp_path / "r.html").read_text()
    assert f"<b>{words}</b> the reason" in html
    assert ("failed" in re.sub(r"<style>.*</style>|class=\"failed\"", "", html, flags=re.S)) is (
        status == "failed"
    )


@pytest.mark.parametrize("name", ["var(--foo)", "var(--real)"])
def test_a_class_may_be_called_as_a_variable_is(name: str, tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    folder.write_facts(
        FederationFacts(class_names=[name, "b"], num_clients=1, train_counts=[[3, 1]])
    )
    figure = labels.partition(RunData.load(folder.path), "")
    assert isinstance(figure, Figure)
    drawn = ElementTree.fromstring(standalone_svg(figure))
    told = [one.text or "" for one in drawn.iter() if name in (one.text or "")]
    assert name in told and f"client 0, class {name}: 3 images" in told
    looks = [value for one in drawn.iter() for key, value in one.attrib.items() if key == "style"]
    assert looks and not any("var(" in value for value in looks)


@pytest.mark.parametrize("reproducible", [False, True])
def test_what_noise_promises_is_told_in_the_words_of_the_log(
    reproducible: bool, tmp_path: Path
) -> None:
    keys: dict[str, Scalar] = {"privacy.noise": 4.0, "privacy.reproducible": reproducible}
    config = RunConfig.from_flat({"method": "regl-dpd", "share-diagnostics": False, **keys})
    run = RunData.load(RunFolder.create(config, tmp_path).path)
    told = dict(key_settings(run))["Discrepancy vectors"]
    assert told == budget_words(config, epsilon(config))
    assert ("infinite" in told) is reproducible
