from __future__ import annotations

from regl_app.runs.quality_line import quality_line
from regl_app.runs.records import GlobalMetrics, PhaseSeconds, RoundRecord

METRICS = GlobalMetrics(accuracy=0.5, macro_f1=0.5)


def test_the_clients_means_stand_in_one_line() -> None:
    record = RoundRecord(
        round=2,
        metrics=METRICS,
        clients={
            0: {"images_reading": 0.5, "images_near_copies": 0.2, "loss": 1.0},
            1: {"images_reading": 1.0, "images_fidelity": 0.5},
            2: {},
        },
        seconds=PhaseSeconds(clients={"measure": [0.25, 0.5, None], "train": [9.0, 9.0, 9.0]}),
    )
    assert quality_line(record) == (
        "synthetic images, mean of clients: 75% read as meant, fidelity 0.50 (real ones: 1), "
        "20% near-copies (new real ones: 10%), measured in 0.8 s"
    )


def test_a_round_that_did_not_measure_has_no_line() -> None:
    assert quality_line(RoundRecord(round=3, metrics=METRICS, clients={0: {"loss": 1.0}})) == ""
