"""history.jsonl survives crashes, reruns and nonsense."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import GlobalMetrics, Personalized, RoundRecord


def _record(number: int, **changes: object) -> RoundRecord:
    fields: dict[str, object] = {
        "round": number,
        "metrics": GlobalMetrics(accuracy=0.5, macro_f1=0.4, loss=1.0, per_class=[0.5, None]),
    }
    return RoundRecord.model_validate(fields | changes)


def test_history_round_trips_numpy_and_absent_rows(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    first = _record(
        1,
        quotas=[np.array([1, 2]), None],
        discrepancy=np.array([[0.1, -0.2], [0.0, 0.5]]),
        personalized=Personalized(mean=0.5, per_client={0: 0.25, 7: 0.75}),
        clients={7: {"node_id": 2**63 + 5, "loss": 0.5}},
    )
    folder.append_round(first)
    folder.append_round(_record(2))
    read = folder.read_history()
    assert read == [first, _record(2)]
    assert read[0].quotas == [[1, 2], None]
    assert read[0].personalized is not None
    assert read[0].personalized.per_client[7] == 0.75


def test_a_torn_last_line_is_reported_and_overwritten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    folder.append_round(_record(1))
    with (folder.path / "history.jsonl").open("a") as stream:
        stream.write('{"round": 2, "metr')
    with caplog.at_level(logging.WARNING, logger="regl"):
        assert [record.round for record in folder.read_history()] == [1]
    assert "line 2 is torn" in caplog.text
    folder.append_round(_record(2))
    assert [record.round for record in folder.read_history()] == [1, 2]


def test_a_bad_line_before_the_last_is_an_error(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    (folder.path / "history.jsonl").write_text('{"round": 1}\n')
    with pytest.raises(RunError, match=r"history\.jsonl:1: not a round record"):
        folder.read_history()


def test_a_resumed_round_replaces_the_first_attempt(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path)
    for record in (_record(1), _record(2), _record(2, failures=["again"])):
        folder.append_round(record)
    assert [record.failures for record in folder.read_history()] == [[], ["again"]]


def test_a_diverged_loss_is_recorded_as_none() -> None:
    metrics = GlobalMetrics(accuracy=0.1, macro_f1=0.0, loss=float("nan"))
    assert metrics.loss is None


@pytest.mark.parametrize(
    "changes",
    [
        {"quotas": [[1, 2], [3]]},
        {"quotas": [[1, 2]], "discrepancy": [[0.1, 0.2], [0.1, 0.2]]},
        {"quotas": [[1, -2]]},
        {"discrepancy": [[float("inf"), 0.0]]},
        {"metrics": {"accuracy": 1.5, "macro_f1": 0.0}},
        {"round": -1},
        {"unknown": 1},
    ],
)
def test_nonsense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _record(1, **changes)
