"""A run's history as a flat table, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from regl_app.runs.records import RoundRecord

Cell = float | int | str | None
_FITS = ("js_before", "js_after", "tv_before", "tv_after", "precision")


def history_csv(history: Sequence[RoundRecord], class_names: Sequence[str]) -> str:
    """Return one line per round and a head; what a round has not is empty.

    Shares are between 0 and 1, times in seconds; means are over the clients that replied.
    """
    rows = [_row(record, class_names) for record in history]
    head: list[str] = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(record: RoundRecord, class_names: Sequence[str]) -> Mapping[str, Cell]:
    row: dict[str, Cell] = {
        "round": record.round,
        "accuracy": record.metrics.accuracy,
        "macro_f1": record.metrics.macro_f1,
        "loss": record.metrics.loss,
    }
    for kind, shares in (
        ("precision", record.metrics.precision),
        ("recall", record.metrics.per_class),
        ("f1", record.metrics.f1),
    ):
        row |= {f"{kind}({n})": share for n, share in zip(class_names, shares, strict=False)}
    if record.lr is not None:
        row["lr"] = record.lr
    if record.validation is not None:
        row["validation_accuracy"] = record.validation.accuracy
        row["validation_loss"] = record.validation.loss
    if record.tail is not None:
        row["tail_accuracy"] = record.tail.accuracy
    if record.personalized is not None:
        row["personalized_accuracy"] = record.personalized.mean
        for client, accuracy in sorted(record.personalized.per_client.items()):
            row[f"personalized_accuracy(client {client})"] = accuracy
    if record.labels is not None:
        for name in _FITS:
            row[name] = _mean(getattr(record.labels, name))
    for name in ("real_counts", "synthetic_counts"):
        matrix = getattr(record, name)
        if matrix is not None:
            row[name.removesuffix("counts") + "images"] = sum(sum(each or ()) for each in matrix)
    row["clients"] = len(record.clients)
    row["failures"] = len(record.failures)
    row["bytes_down"], row["bytes_up"] = record.bytes.down, record.bytes.up
    row["seconds"] = record.seconds.wall
    for phase, values in record.seconds.clients.items():
        row[f"client_seconds({phase})"] = sum(value or 0.0 for value in values)
    for phase, seconds in record.seconds.server.items():
        row[f"server_seconds({phase})"] = seconds
    return row


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
