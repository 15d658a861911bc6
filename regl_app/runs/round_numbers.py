"""A round as plain numbers, each under the name that tables and trackers have for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from regl_app.runs.records import RoundRecord

Value = float | int | None
_LONGEST_NAME = 60


@dataclass(frozen=True)
class RoundNumber:
    """One number of a round; ``value`` is None where it is not known.

    ``column`` is its name in history.csv, ``tag`` the one that trackers show it under; '' where it
    is told in one of them only.
    """

    column: str
    tag: str
    value: Value


def round_numbers(record: RoundRecord, class_names: Sequence[str] = ()) -> Iterator[RoundNumber]:
    """Yield what one round measured, in the order of the columns.

    What a kind of run has not is left out. Numbers of clients are means over those that replied,
    seconds sums.
    """
    yield RoundNumber("round", "", record.round)
    yield RoundNumber("accuracy", "global/accuracy", record.metrics.accuracy)
    yield RoundNumber("macro_f1", "global/macro_f1", record.metrics.macro_f1)
    yield RoundNumber("loss", "global/loss", record.metrics.loss)
    yield from _of_classes(record, class_names)
    yield from _where_measured(record)
    yield from _supplement(record)
    yield from _cost(record)


def class_tag(label: int, names: Sequence[str]) -> str:
    """Return what a class is called in a tag: its number, and its name in what letters all take.

    TensorBoard and MLflow allow letters and digits of any script, '.', '-' and '_' alone.
    """
    name = names[label] if label < len(names) else str(label)
    clean = re.sub(r"[^\w.-]+", "_", name).strip("_")[:_LONGEST_NAME]
    return f"class-{label:02d}" + (f"-{clean}" if clean and name != str(label) else "")


def client_tag(number: int) -> str:
    """Return what a client is called in a tag."""
    return f"client-{number:02d}"


def _of_classes(record: RoundRecord, names: Sequence[str]) -> Iterator[RoundNumber]:
    metrics = record.metrics
    by_kind = {"precision": metrics.precision, "recall": metrics.per_class, "f1": metrics.f1}
    for kind, shares in by_kind.items():
        for label, share in enumerate(shares):
            column = f"{kind}({names[label]})" if label < len(names) else ""
            yield RoundNumber(column, f"{kind}/{class_tag(label, names)}", share)


def _where_measured(record: RoundRecord) -> Iterator[RoundNumber]:
    if record.lr is not None:
        yield RoundNumber("lr", "clients/lr", record.lr)
    if record.validation is not None:
        found = record.validation
        yield RoundNumber("validation_accuracy", "validation/accuracy", found.accuracy)
        yield RoundNumber("validation_loss", "validation/loss", found.loss)
    if record.tail is not None:
        yield RoundNumber("tail_accuracy", "global/tail_accuracy", record.tail.accuracy)
    if record.personalized is not None:
        own = record.personalized
        yield RoundNumber("personalized_accuracy", "personalized/accuracy", own.mean)
        for client, accuracy in sorted(own.per_client.items()):
            column = f"personalized_accuracy(client {client})"
            yield RoundNumber(column, f"personalized/{client_tag(client)}", accuracy)
    if record.labels is not None:
        for name, values in record.labels:
            yield RoundNumber(name, f"labels/{name}", _mean(values))


def _supplement(record: RoundRecord) -> Iterator[RoundNumber]:
    for client, lack in _positive_sums(record.discrepancy).items():
        yield RoundNumber("", f"discrepancy/{client_tag(client)}", lack)
    if record.real_counts is not None:
        yield RoundNumber("real_images", "", sum(map(sum, filter(None, record.real_counts))))
    if record.synthetic_counts is not None:
        made = record.synthetic_counts
        total = sum(map(sum, filter(None, made)))
        yield RoundNumber("synthetic_images", "supplement/all_clients", total)
        for client, row in enumerate(made):
            if row is not None:
                yield RoundNumber("", f"supplement/{client_tag(client)}", sum(row))


def _cost(record: RoundRecord) -> Iterator[RoundNumber]:
    yield RoundNumber("clients", "", len(record.clients))
    yield RoundNumber("failures", "clients/failures", len(record.failures))
    yield RoundNumber("bytes_down", "bytes/down", record.bytes.down)
    yield RoundNumber("bytes_up", "bytes/up", record.bytes.up)
    yield RoundNumber("seconds", "seconds/round", record.seconds.wall)
    for phase, values in record.seconds.clients.items():
        spent = sum(value or 0.0 for value in values)
        yield RoundNumber(f"client_seconds({phase})", f"seconds/clients_{phase}", spent)
    for phase, seconds in record.seconds.server.items():
        yield RoundNumber(f"server_seconds({phase})", f"seconds/server_{phase}", seconds)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _positive_sums(matrix: Sequence[Sequence[float] | None] | None) -> Mapping[int, float]:
    """Return the sum of the positive entries of each row that is known."""
    return {
        client: sum((value for value in row if value > 0), 0.0)
        for client, row in enumerate(matrix or ())
        if row is not None
    }
