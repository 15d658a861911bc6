"""TensorBoard's view of a run: scalars per round, the clients' sample pictures."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from regl_app.records import RoundRecord
from regl_app.report.samples import load_all_samples, sample_grid

FOLDER = "tensorboard"


class Tracker:
    """Writes to ``<run>/tensorboard`` while it is open; does nothing if not ``enabled``."""

    def __init__(self, run_dir: Path, *, enabled: bool) -> None:
        self._run_dir = run_dir
        self._enabled = enabled
        self._writer: Any = None
        self._samples_written: set[int] = set()

    def __enter__(self) -> Self:
        if self._enabled:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._run_dir / FOLDER))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, record: RoundRecord) -> None:
        """Write one round's numbers, and pictures that have appeared since the last."""
        if self._writer is None:
            return
        for name, value in _scalars(record).items():
            self._writer.add_scalar(name, value, record.round)
        for samples in load_all_samples(self._run_dir):
            if samples.partition_id not in self._samples_written:
                self._samples_written.add(samples.partition_id)
                name = f"samples/client-{samples.partition_id:02d}"
                self._writer.add_image(name, sample_grid(samples), record.round, dataformats="HWC")
        self._writer.flush()


def _scalars(record: RoundRecord) -> dict[str, float]:
    scalars = {
        "global/accuracy": record.metrics.accuracy,
        "global/macro_f1": record.metrics.macro_f1,
        "seconds/round": record.seconds.wall,
        "bytes/down": float(record.bytes.down),
        "bytes/up": float(record.bytes.up),
        "clients/failures": float(len(record.failures)),
    }
    if record.metrics.loss is not None:
        scalars["global/loss"] = record.metrics.loss
    if record.personalized is not None:
        scalars["personalized/accuracy"] = record.personalized.mean
    for name, matrix in (
        ("discrepancy/mean_positive", record.discrepancy),
        ("supplement/images", record.synthetic_counts),
    ):
        rows = [row for row in matrix or [] if row is not None]
        if rows:
            values = np.maximum(np.asarray(rows, dtype=np.float64), 0.0)
            scalars[name] = float(values.mean() if "mean" in name else values.sum())
    return scalars
