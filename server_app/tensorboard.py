"""TensorBoard's view of a run: scalars per round, the clients' sample pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from regl_app.core.log import logger
from regl_app.runs.records import RoundRecord
from regl_app.runs.samples import load_all_samples, sample_grid

FOLDER = "tensorboard"


class Tracker:
    """Writes to ``<run>/tensorboard`` while it is open; does nothing if not ``enabled``.

    What an interrupted run wrote of ``first_round`` and later ones is taken back. Without room on
    the disk it stops, with a warning: the history has the same numbers.
    """

    def __init__(self, run_dir: Path, *, enabled: bool, first_round: int = 0) -> None:
        self._run_dir = run_dir
        self._first_round = first_round
        self._enabled = enabled
        self._writer: Any = None
        self._samples_written: set[int] = set()

    def __enter__(self) -> Self:
        if self._enabled:
            from torch.utils.tensorboard import SummaryWriter

            with self._given_up_without_room():
                self._writer = SummaryWriter(
                    str(self._run_dir / FOLDER), purge_step=self._first_round or None
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            with self._given_up_without_room():
                self._writer.close()

    @contextmanager
    def _given_up_without_room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            logger.warning("%s: no longer written: %s", self._run_dir / FOLDER, error)

    def add(self, record: RoundRecord) -> None:
        """Write one round's numbers, and pictures that have appeared since the last."""
        if self._writer is not None:
            with self._given_up_without_room():
                self._add(record)

    def _add(self, record: RoundRecord) -> None:
        for name, value in _scalars(record).items():
            self._writer.add_scalar(name, value, record.round)
        for samples in load_all_samples(self._run_dir):
            if samples.partition_id not in self._samples_written:
                self._samples_written.add(samples.partition_id)
                name = f"samples/client-{samples.partition_id:02d}"
                self._writer.add_image(name, sample_grid(samples), record.round, dataformats="HWC")
        self._writer.flush()


def _scalars(record: RoundRecord) -> dict[str, float]:
    """Return what one round measured by its name in TensorBoard; what is unknown is left out."""
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
    if record.validation is not None:
        scalars["validation/accuracy"] = record.validation.accuracy
        if record.validation.loss is not None:
            scalars["validation/loss"] = record.validation.loss
    if record.lr is not None:
        scalars["clients/lr"] = record.lr
    if record.tail is not None:
        scalars["global/tail_accuracy"] = record.tail.accuracy
    if record.labels is not None:
        for name, values in record.labels:
            known = [value for value in values if value is not None]
            if known:
                scalars[f"labels/{name}"] = sum(known) / len(known)
    if record.personalized is not None:
        scalars["personalized/accuracy"] = record.personalized.mean
        for client, accuracy in sorted(record.personalized.per_client.items()):
            scalars[f"personalized/{_client(client)}"] = accuracy
    for label, recall in enumerate(record.metrics.per_class):
        if recall is not None:
            scalars[f"recall/class-{label:02d}"] = recall
    for phase, seconds in record.seconds.server.items():
        scalars[f"seconds/server_{phase}"] = seconds
    for phase, by_client in record.seconds.clients.items():
        scalars[f"seconds/clients_{phase}"] = sum(value or 0.0 for value in by_client)
    lacking = _positive_sums(record.discrepancy)
    for client, total in lacking.items():
        scalars[f"discrepancy/{_client(client)}"] = total
    made = _positive_sums(record.synthetic_counts)
    for client, total in made.items():
        scalars[f"supplement/{_client(client)}"] = total
    if made:
        scalars["supplement/all_clients"] = sum(made.values())
    return scalars


def _client(number: int) -> str:
    return f"client-{number:02d}"


def _positive_sums(matrix: Sequence[Sequence[float] | None] | None) -> dict[int, float]:
    """Return the sum of the positive entries of each row that is known."""
    return {
        client: float(np.maximum(np.asarray(row, dtype=np.float64), 0.0).sum())
        for client, row in enumerate(matrix or [])
        if row is not None
    }
