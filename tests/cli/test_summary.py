"""A finished run in one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from regl_app.cli.summary import print_summary
from regl_app.config import RunConfig
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import GlobalMetrics, Personalized, RoundRecord, RunResult


@pytest.mark.parametrize(("method", "whole"), [("fedavg", True), ("fedrep", False)])
def test_what_is_no_whole_global_model_has_no_figures_in_it(
    method: str, whole: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": method, "rounds": 1}), tmp_path)
    metrics = GlobalMetrics(accuracy=0.123, macro_f1=0.456)
    clients = Personalized(mean=0.789, per_client={0: 0.789})
    folder.append_round(RoundRecord(round=1, metrics=metrics, personalized=clients))
    folder.write_result(RunResult(status="finished", seconds=5.0))
    print_summary(folder.path)
    told = capsys.readouterr().out
    for words in ("0.123", "0.456", "rounds to 90%"):
        assert (words in told) is whole, words
    assert "0.789" in told and "5 s" in told
