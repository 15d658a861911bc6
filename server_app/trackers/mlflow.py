"""MLflow's view of a run: a tracking server's, or a file store's beside the run folders."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regl_app.core.array_files import Array
from regl_app.core.log import logger
from server_app.trackers.identity import remember, remembered
from server_app.trackers.tracker import Status, TrackedRun

NAME = "mlflow"
STORE = "mlruns"
_EXPERIMENT = "regl"
# The most that MLflow takes in one call, and of one parameter's text by its older servers.
_BATCH, _LONGEST = 100, 500
_ENDS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MLflow:
    """Sends to where MLFLOW_TRACKING_URI says, else into ``<out-dir>/mlruns``."""

    def __init__(self) -> None:
        self._client: Any = None
        self._id = ""

    def begin(self, run: TrackedRun) -> None:
        """Open the run with the configuration as its parameters, or go on with the folder's."""
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if not address:
            address = (run.folder.path.resolve().parent / STORE).as_uri()
            # Newer MLflow wants to be told that a store of files is meant.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=address)
        before = remembered(run.folder, NAME)
        if before is not None:
            self._client.update_run(before, status="RUNNING")
            self._id = before
        else:
            self._id = self._new(run)
            remember(run.folder, NAME, self._id)
        logger.info("mlflow: run %s at %s", self._id, address)

    def _new(self, run: TrackedRun) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {"regl.method": str(run.config.method)}
        made = self._client.create_run(number, run_name=run.folder.name, tags=tags)
        identity = str(made.info.run_id)
        keys = [(key, str(value)[:_LONGEST]) for key, value in run.config.to_flat().items()]
        for start in range(0, len(keys), _BATCH):
            params = [Param(*pair) for pair in keys[start : start + _BATCH]]
            self._client.log_batch(identity, params=params)
        return identity

    def scalars(self, values: Mapping[str, float], number: int) -> None:
        """Log one round's numbers."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        told = [Metric(name, value, now, number) for name, value in values.items()]
        for start in range(0, len(told), _BATCH):
            self._client.log_batch(self._id, metrics=told[start : start + _BATCH])

    def picture(self, name: str, pixels: Array, number: int) -> None:
        """Log a picture as an artifact."""
        self._client.log_image(self._id, pixels, artifact_file=f"{name}-round-{number:04d}.png")

    def files(self, paths: Sequence[Path]) -> None:
        """Log each file as an artifact."""
        for path in paths:
            self._client.log_artifact(self._id, str(path))

    def end(self, status: Status) -> None:
        """Close the run."""
        self._client.set_terminated(self._id, _ENDS[status])
