"""The numbers of a round by the names that trackers show them under."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from regl_app.runs.records import RoundRecord

_LONGEST_NAME = 60


def class_tag(label: int, names: Sequence[str]) -> str:
    """Return what a class is called in a tag: its number, and its name in what letters all take.

    TensorBoard and MLflow allow letters and digits of any script, '.', '-' and '_' alone.
    """
    name = names[label] if label < len(names) else str(label)
    clean = re.sub(r"[^\w.-]+", "_", name).strip("_")[:_LONGEST_NAME]
    return f"class-{label:02d}" + (f"-{clean}" if clean and name != str(label) else "")


def round_scalars(record: RoundRecord, names: Sequence[str] = ()) -> dict[str, float]:
    """Return what one round measured; what is unknown is left out. ``names`` are the classes'."""
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
            scalars[f"personalized/{client_tag(client)}"] = accuracy
    metrics = record.metrics
    by_class = {"recall": metrics.per_class, "precision": metrics.precision, "f1": metrics.f1}
    for what, shares in by_class.items():
        for label, share in enumerate(shares):
            if share is not None:
                scalars[f"{what}/{class_tag(label, names)}"] = share
    for phase, seconds in record.seconds.server.items():
        scalars[f"seconds/server_{phase}"] = seconds
    for phase, by_client in record.seconds.clients.items():
        scalars[f"seconds/clients_{phase}"] = sum(value or 0.0 for value in by_client)
    lacking = _positive_sums(record.discrepancy)
    for client, total in lacking.items():
        scalars[f"discrepancy/{client_tag(client)}"] = total
    made = _positive_sums(record.synthetic_counts)
    for client, total in made.items():
        scalars[f"supplement/{client_tag(client)}"] = total
    if made:
        scalars["supplement/all_clients"] = sum(made.values())
    return scalars


def kept_scalars(record: RoundRecord) -> dict[str, float]:
    """Return the scores of the model that a run keeps, that of ``record``'s round, as its own."""
    kept = {f"kept/{name}": value for name, value in _scores(record).items()}
    return {"kept/round": float(record.round)} | kept


def _scores(record: RoundRecord) -> dict[str, float]:
    found = {
        "accuracy": record.metrics.accuracy,
        "macro_f1": record.metrics.macro_f1,
        "loss": record.metrics.loss,
        "tail_accuracy": record.tail.accuracy if record.tail else None,
        "personalized_accuracy": record.personalized.mean if record.personalized else None,
        "validation_accuracy": record.validation.accuracy if record.validation else None,
        "validation_loss": record.validation.loss if record.validation else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def client_tag(number: int) -> str:
    """Return what a client is called in a tag."""
    return f"client-{number:02d}"


def _positive_sums(matrix: Sequence[Sequence[float] | None] | None) -> dict[int, float]:
    """Return the sum of the positive entries of each row that is known."""
    return {
        client: float(np.maximum(np.asarray(row, dtype=np.float64), 0.0).sum())
        for client, row in enumerate(matrix or [])
        if row is not None
    }
