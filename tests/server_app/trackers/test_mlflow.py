"""MLflow's file store, read back by MLflow: ``pip install 'regl-app[mlflow]'``."""

from __future__ import annotations

import pytest

from server_app.trackers.mlflow import STORE, MLflow
from server_app.trackers.tracker import TrackedRun
from server_app.trackers.trackers import Trackers

from .conftest import LAST, TRAINED, UNTRAINED, RunMaker

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of this machine decide where runs go."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def tell(run: TrackedRun, *records: object, error: Exception | None = None) -> None:
    with Trackers({"mlflow": MLflow()}) as trackers:
        trackers.begin(run)
        for record in records:
            run.folder.append_round(record)  # type: ignore[arg-type]
            trackers.add(record)  # type: ignore[arg-type]
        if error is not None:
            raise error


def test_a_run_and_its_resumption_are_one(tracked: RunMaker) -> None:
    run = tracked()
    with pytest.raises(ValueError, match="no more"):
        tell(run, UNTRAINED, TRAINED, error=ValueError("no more"))
    client = mlflow.MlflowClient((run.folder.path.parent / STORE).as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'regl'")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.status, found.info.run_name) == ("FAILED", "one")
    assert found.data.params["method"] == "fedavg"
    assert found.data.params["train.lr"] == "0.05"
    assert found.data.metrics["recall/class-00-a_cat"] == 0.75

    # The name of the report's folder is no result's: a parameter may not change, and need not.
    run.folder.report.write_text("<html>")
    tell(tracked(first_round=2, report=False), LAST)
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    steps = [
        (one.step, one.value) for one in client.get_metric_history(found.info.run_id, "global/loss")
    ]
    assert steps == [(1, 1.5), (2, 1.5)]
    files = {one.path for one in client.list_artifacts(found.info.run_id)}
    assert files >= {"config.json", "federation.json", "history.jsonl", "report.html", "confusion"}
    pictures = [one.path for one in client.list_artifacts(found.info.run_id, "confusion")]
    assert "confusion/global-round-0002.png" in pictures


def test_a_run_that_is_no_longer_there_is_a_warning(
    tracked: RunMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracked()
    tell(run, UNTRAINED, TRAINED)
    other = (run.folder.path.parent / "other").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    tell(tracked(first_round=2), LAST)
    assert "mlflow: no longer written, the run goes on" in caplog.text
