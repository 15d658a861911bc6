"""What TensorBoard is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regl_app.runs.records import GlobalMetrics, Personalized, PhaseSeconds, RoundRecord
from server_app.tensorboard import FOLDER, Tracker

UNTRAINED = RoundRecord(round=0, metrics=GlobalMetrics(accuracy=0.1, macro_f1=0.1))
TRAINED = RoundRecord(
    round=1,
    metrics=GlobalMetrics(accuracy=0.5, macro_f1=0.25, loss=1.5, per_class=[0.75, None]),
    personalized=Personalized(mean=0.5, per_client={1: 0.5}),
    discrepancy=[[0.5, -1.0], None],
    synthetic_counts=[[0, 3], [2, 2]],
    seconds=PhaseSeconds(clients={"train": [1.0, None]}, server={"aggregate": 0.5}, wall=2.0),
)


def test_scalars_of_every_kind_from_round_zero(tmp_path: Path) -> None:
    with Tracker(tmp_path, enabled=True) as tracker:
        tracker.add(UNTRAINED)
        tracker.add(TRAINED)
    events = EventAccumulator(str(tmp_path / FOLDER))
    events.Reload()
    shown = {
        name: [(e.step, pytest.approx(e.value)) for e in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    assert shown["global/accuracy"] == [(0, 0.1), (1, 0.5)]
    last = {name: points[-1][1] for name, points in shown.items() if points[-1][0] == 1}
    assert last == {
        "global/accuracy": 0.5,
        "global/macro_f1": 0.25,
        "global/loss": 1.5,
        "recall/class-00": 0.75,
        "personalized/accuracy": 0.5,
        "personalized/client-01": 0.5,
        "discrepancy/client-00": 0.5,
        "supplement/client-00": 3,
        "supplement/client-01": 4,
        "supplement/all_clients": 7,
        "seconds/round": 2.0,
        "seconds/clients_train": 1.0,
        "seconds/server_aggregate": 0.5,
        "bytes/down": 0,
        "bytes/up": 0,
        "clients/failures": 0,
    }


def test_nothing_is_written_when_disabled(tmp_path: Path) -> None:
    with Tracker(tmp_path, enabled=False) as tracker:
        tracker.add(TRAINED)
    assert not list(tmp_path.iterdir())
