"""Checked fields of Flower records: what a peer wrote is read once, here, or refused by name."""

from __future__ import annotations

import math
import re
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord, MetricRecord

from regl_app.data.images import Counts
from regl_app.errors import ProtocolError

Fact = bool | int | float | str
_T = TypeVar("_T", bool, int, float, str, bytes)


def get(record: ConfigRecord, key: str, kind: type[_T]) -> _T:
    """Return the field ``key``, which must be a ``kind``. All here raise ``ProtocolError``."""
    value = record.get(key)
    if type(value) is not kind:
        raise ProtocolError(f"{key} must be a {kind.__name__}, got {value!r}")
    return value


def at_least(record: ConfigRecord, key: str, least: int) -> int:
    """Return a whole number of at least ``least``."""
    value = get(record, key, int)
    if value < least:
        raise ProtocolError(f"{key} must be >= {least}, got {value}")
    return value


def number(metrics: MetricRecord, key: str) -> int | float:
    """Return a finite number."""
    value = metrics.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ProtocolError(f"{key} must be a finite number, got {value!r}")
    return value


def get_digest(record: ConfigRecord, key: str) -> str:
    """Return a SHA-256 in hexadecimal, '' if absent."""
    value = record.get(key, "")
    if not isinstance(value, str) or not re.fullmatch("(?:[0-9a-f]{64})?", value):
        raise ProtocolError(f"{key} must be 64 hexadecimal digits, got {value!r}")
    return value


def put_counts(record: ConfigRecord, key: str, counts: Counts | None) -> None:
    """Write counts ``(C,)``, if there are any."""
    if counts is not None:
        record[key] = [int(value) for value in counts]


def get_counts(record: ConfigRecord, key: str, num_classes: int) -> Counts | None:
    """Return counts ``(C,)``, None if absent."""
    values = record.get(key)
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != num_classes
        or any(type(value) is not int or value < 0 for value in values)
    ):
        raise ProtocolError(f"{key} must be {num_classes} whole numbers >= 0, got {values!r}")
    return np.array(values, dtype=np.int64)


def whole_numbers(record: ConfigRecord, key: str, below: int) -> npt.NDArray[np.int64]:
    """Return whole numbers in ``[0, below)``, ``(M,)``."""
    values = record.get(key)
    if not isinstance(values, list) or any(
        type(value) is not int or not 0 <= value < below for value in values
    ):
        raise ProtocolError(f"{key} must be whole numbers from 0 to {below - 1}, got {values!r}")
    return np.array(values, dtype=np.int64)


def table(record: ConfigRecord, prefix: str) -> dict[str, object]:
    """Return the fields whose key begins with ``prefix``, without it."""
    return {key[len(prefix) :]: value for key, value in record.items() if key.startswith(prefix)}


def seconds_of(key: str, value: object) -> float:
    """Return a duration."""
    if not isinstance(value, float) or not (math.isfinite(value) and value >= 0):
        raise ProtocolError(f"seconds.{key} must be a finite number >= 0, got {value!r}")
    return value


def fact_of(key: str, value: object) -> Fact:
    """Return a text or a finite number."""
    if not isinstance(value, bool | int | float | str) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ProtocolError(f"facts.{key} must be a text or a finite number, got {value!r}")
    return value
