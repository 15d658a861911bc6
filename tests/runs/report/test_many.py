"""Reports of many clients, classes and rounds: what is read, how large they get, what stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regl_app.config import RunConfig
from regl_app.core.array_files import Array, read_arrays
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import FederationFacts, GlobalMetrics, ImageQualities, RoundRecord
from regl_app.runs.report.build import build_report
from regl_app.runs.report.figures import discrepancy, image_quality, labels
from regl_app.runs.report.figures.base import Figure
from regl_app.runs.report.figures.part import MOST_CELLS, part_of
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.run_page import Maker

RunMaker = Callable[..., Path]
CLIENTS, CLASSES = 200, 100


def test_no_sample_pictures_are_read_but_those_that_are_shown(
    make_run: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, method="regl", rounds=1)
    read: list[str] = []

    def reading(path: Path) -> dict[str, Array]:
        read.append(path.name)
        return read_arrays(path)

    monkeypatch.setattr("regl_app.runs.samples.read_arrays", reading)
    html = build_report([run], tmp_path / "r.html").read_text()
    assert len(read) == html.count('class="walls"') * 4 == 4
    (run / "samples" / read[0]).write_bytes(b"PK")
    html = build_report([run], tmp_path / "r.html").read_text()
    assert len(read) == 4 + 5
    assert html.count("Real and synthetic images of client") == 4


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of 200 clients with 100 classes."""
    path = tmp_path_factory.mktemp("large")
    folder = RunFolder.create(RunConfig.from_flat({"method": "regl-dpd"}), path)
    names = [f"class {label}" for label in range(CLASSES)]
    rng = np.random.default_rng(0)
    counts: list[list[int] | None] = [*rng.integers(0, 9, (CLIENTS, CLASSES)).tolist()]
    folder.write_facts(
        FederationFacts(
            class_names=names, num_clients=CLIENTS, train_counts=counts, test_images=500
        )
    )
    shares: list[list[float | None] | None] = [*rng.uniform(0, 1, (CLIENTS, CLASSES)).tolist()]
    gaps: list[list[float] | None] = [*rng.normal(0, 1, (CLIENTS, CLASSES)).tolist()]
    quality = ImageQualities(
        images=counts, reading=shares, fidelity=shares, diversity=shares, near_copies=shares
    )
    for number in (1, 2, 3, 4):
        folder.append_round(
            RoundRecord(
                round=number,
                metrics=GlobalMetrics(accuracy=0.5, macro_f1=0.5, per_class=[0.5] * CLASSES),
                discrepancy=gaps,
                quotas=[[(value + number) % 9 for value in row or ()] for row in counts],
                synthetic_counts=counts,
                quality=quality,
                clients={client: {"images_reading": 0.5} for client in range(CLIENTS)},
            )
        )
    return folder.path


def test_a_report_stays_small_with_many_clients_and_classes(large: Path, tmp_path: Path) -> None:
    html = build_report([large], tmp_path / "r.html").read_text()
    assert len(html.encode()) < 12_000_000
    for figure in re.findall(r"<figure .*?</figure>", html, flags=re.S):
        assert figure.count("<rect") <= 2 * MOST_CELLS + 200


@pytest.mark.parametrize(
    ("make", "clients", "panels"),
    [
        (labels.partition, 100, 1),
        (discrepancy.matrices, 58, 3),
        (discrepancy.quotas, 58, 3),
        (image_quality.quality_of_images, 50, 4),
    ],
)
def test_what_is_drawn_of_a_large_matrix_is_said_and_the_numbers_are_all(
    large: Path, make: Maker, clients: int, panels: int
) -> None:
    figure = make(RunData.load(large), "")
    assert isinstance(figure, Figure)
    assert f"Shown are {clients} of {CLIENTS} clients" in figure.caption
    assert "evenly spread" in figure.caption
    assert figure.body.count("<svg") == panels
    assert len(figure.numbers.rows) >= panels * CLIENTS * CLASSES
    # A cell is its own client's, whatever is left out between.
    assert re.search(rf"client {CLIENTS - 1}, class class {CLASSES - 1}\W", figure.body)


def test_bars_beside_a_part_are_sums_of_all_classes(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    counts = [[1] * 1500 for _ in range(110)]
    folder.write_facts(
        FederationFacts(
            class_names=[str(label) for label in range(1500)], num_clients=110, train_counts=counts
        )
    )
    run = RunData.load(folder.path)
    figure = labels.partition(run, "")
    assert isinstance(figure, Figure)
    assert "Shown are 100 of 110 clients and 100 of 1500 classes" in figure.caption
    assert figure.body.count(">1500</text>") == 100
    small = labels.all_clients(run, "")
    assert isinstance(small, Figure)
    assert small.body.count("<rect") <= MOST_CELLS
    assert "The first 3 of 110 clients" in small.caption


def test_a_part_has_both_ends_and_no_more_cells_than_there_may_be() -> None:
    for rows, columns, panels in ((200, 100, 1), (3, 50_000, 3), (50_000, 2, 4), (1, 1, 4)):
        part = part_of(rows, columns, panels=panels)
        assert len(part.rows) * len(part.columns) * panels <= MOST_CELLS
        assert (part.rows[0], part.rows[-1]) == (0, rows - 1)
        assert (part.columns[0], part.columns[-1]) == (0, columns - 1)
        assert len(set(part.rows)) == len(part.rows)
    assert part_of(60, 62, panels=2).words == ""
