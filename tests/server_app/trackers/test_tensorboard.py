"""What TensorBoard is given."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regl_app.runs.folder import RunFolder
from server_app.trackers.tensorboard import FOLDER, TensorBoard
from server_app.trackers.tracker import TrackedRun
from server_app.trackers.trackers import Trackers

from .conftest import LAST, TRAINED, UNTRAINED, RunMaker


def events_of(folder: RunFolder) -> EventAccumulator:
    events = EventAccumulator(str(folder.path / FOLDER))
    events.Reload()
    return events


def tell(run: TrackedRun, *records: object) -> EventAccumulator:
    with Trackers({"tensorboard": TensorBoard()}) as trackers:
        trackers.begin(run)
        for record in records:
            run.folder.append_round(record)  # type: ignore[arg-type]
            trackers.add(record)  # type: ignore[arg-type]
    return events_of(run.folder)


def test_scalars_of_every_kind_from_round_zero(tracked: RunMaker) -> None:
    events = tell(tracked(), UNTRAINED, TRAINED)
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
        "recall/class-00-a_cat": 0.75,
        "precision/class-00-a_cat": 0.5,
        "f1/class-00-a_cat": 0.6,
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


def test_classes_and_configuration_are_texts_and_what_was_confused_a_picture(
    tracked: RunMaker,
) -> None:
    events = tell(tracked(), UNTRAINED, TRAINED)
    told = events.Tensors("run/classes/text_summary")[0].tensor_proto.string_val[0].decode()
    assert told.splitlines()[0] == "| number | class |"
    assert "| 1 | 犬/いぬ |" in told
    keys = events.Tensors("run/configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| method | fedavg |" in keys
    (picture,) = events.Images("confusion/global")
    assert (picture.step, picture.width > 100) == (1, True)


def test_a_resumed_run_takes_repeated_rounds_back(tracked: RunMaker) -> None:
    tell(tracked(), UNTRAINED, TRAINED, LAST)
    events = tell(tracked(first_round=2), LAST)
    assert [event.step for event in events.Scalars("global/accuracy")] == [0, 1, 2]
