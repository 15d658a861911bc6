"""Checked fields of Flower records: what a peer wrote is read once, here, or refused by name.

Sizes are looked at before anything else, and what is refused is quoted in brief: a message of any
size leaves a line in the log, no more.
"""

from __future__ import annotations

import re
from typing import TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord, MetricRecord

from regl_app.core.bounds import MOST_IMAGES, MOST_SECONDS
from regl_app.core.errors import ProtocolError
from regl_app.core.types import Counts, Fact

MOST_FIELDS = 256
"""Fields of a record."""
MOST_NAME = 64
"""Characters of a field's name."""
MOST_TEXT = 4096
"""Characters of a text: a path."""
MOST_ID = 64
"""Characters of a digest or a run's name."""
MOST_FACTS = 64
"""Facts, and likewise durations, that a reply may tell."""
MOST_FACT = 200
"""Characters of a fact."""
MOST_NUMBER = 1e39
"""Size of a loss or the like: more than any of single precision, and sums stay finite."""
_FACTS = {
    "local_accuracy": (0, 1, False),
    "unreadable": (0, MOST_IMAGES, True),
    "adapter_steps": (0, MOST_IMAGES, True),
    "loss": (-MOST_NUMBER, MOST_NUMBER, False),
    "adapter_loss": (-MOST_NUMBER, MOST_NUMBER, False),
}
"""Lowest and highest value of facts that are numbers, and whether these are whole."""
_SHOWN = 120

_T = TypeVar("_T", bool, int, float, str, bytes)


def shown(value: object) -> str:
    """Return ``value`` as messages quote it: whole if it is short, else its kind and length."""
    if isinstance(value, str | bytes | list | tuple) and len(value) > _SHOWN:
        return f"a {type(value).__name__} of length {len(value)}"
    text = repr(value)
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}..."


def one_line(text: str, most: int) -> str:
    """Return ``text`` without control characters, cut after ``most``: fit for a log."""
    plain = "".join(each if each.isprintable() else " " for each in text[: most + 1])
    return plain if len(plain) <= most else f"{plain[:most]}..."


def check_fields(name: str, record: ConfigRecord | MetricRecord) -> None:
    """Refuse a record with more fields, longer names or other lists than any of ours has."""
    if len(record) > MOST_FIELDS:
        raise ProtocolError(f"{name} must have at most {MOST_FIELDS} fields, got {len(record)}")
    for key, value in record.items():
        if len(key) > MOST_NAME or not key.isprintable():
            raise ProtocolError(
                f"{name}: a field's name must be at most {MOST_NAME} printable characters, got "
                f"{shown(key)}"
            )
        # Flower counts the bytes of a list by its first item only.
        if isinstance(value, list) and value and not isinstance(value[0], int | float):
            raise ProtocolError(f"{key} must hold no list of {type(value[0]).__name__}")


def get(record: ConfigRecord, key: str, kind: type[_T], *, most: int = MOST_TEXT) -> _T:
    """Return the field ``key``, which must be a ``kind``. All here raise ``ProtocolError``.

    ``most`` is the greatest length of a text or of bytes.
    """
    value = record.get(key)
    if type(value) is not kind:
        raise ProtocolError(f"{key} must be a {kind.__name__}, got {shown(value)}")
    if isinstance(value, str | bytes) and len(value) > most:
        unit = "characters" if isinstance(value, str) else "bytes"
        raise ProtocolError(f"{key} must have at most {most} {unit}, got {len(value)}")
    return value


def at_least(record: ConfigRecord, key: str, least: int, most: int | None = None) -> int:
    """Return a whole number of at least ``least`` and, if that is set, at most ``most``."""
    value = get(record, key, int)
    if value < least:
        raise ProtocolError(f"{key} must be >= {least}, got {value}")
    if most is not None and value > most:
        raise ProtocolError(f"{key} must be <= {most}, got {value}")
    return value


def number(metrics: MetricRecord, key: str) -> int | float:
    """Return a finite number of at most ``MOST_NUMBER`` in size."""
    value = metrics.get(key)
    if not _is_number(value, -MOST_NUMBER, MOST_NUMBER):
        raise ProtocolError(
            f"{key} must be a finite number of at most {MOST_NUMBER:g} in size, got {shown(value)}"
        )
    return value


def number_of_images(metrics: MetricRecord, key: str) -> int:
    """Return a whole number from 0 to ``MOST_IMAGES``."""
    value = metrics.get(key)
    if type(value) is not int or not 0 <= value <= MOST_IMAGES:
        raise ProtocolError(f"{key} must be a whole number from 0 to 2^40, got {shown(value)}")
    return value


def get_digest(record: ConfigRecord, key: str) -> str:
    """Return a SHA-256 in hexadecimal, '' if absent."""
    value = record.get(key, "")
    if not isinstance(value, str) or not re.fullmatch("(?:[0-9a-f]{64})?", value):
        raise ProtocolError(f"{key} must be 64 hexadecimal digits, got {shown(value)}")
    return value


def put_counts(record: ConfigRecord, key: str, counts: Counts | None) -> None:
    """Write counts ``(C,)``, if there are any."""
    if counts is not None:
        record[key] = [int(value) for value in counts]


def get_counts(record: ConfigRecord, key: str, num_classes: int) -> Counts | None:
    """Return counts ``(C,)`` of at most ``MOST_IMAGES`` each, None if absent."""
    values = record.get(key)
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != num_classes
        or any(type(value) is not int or not 0 <= value <= MOST_IMAGES for value in values)
    ):
        raise ProtocolError(
            f"{key} must be {num_classes} whole numbers from 0 to 2^40, got {shown(values)}"
        )
    return np.array(values, dtype=np.int64)


def get_numbers(
    record: ConfigRecord, key: str, num_classes: int, most: float
) -> npt.NDArray[np.float64] | None:
    """Return numbers ``(C,)`` of at most ``most`` in size, None if absent."""
    values = record.get(key)
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != num_classes
        or any(type(value) is not float or not -most <= value <= most for value in values)
    ):
        raise ProtocolError(
            f"{key} must be {num_classes} numbers in [-{most:g}, {most:g}], got {shown(values)}"
        )
    return np.array(values, dtype=np.float64)


def whole_numbers(record: ConfigRecord, key: str, below: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most ``most`` whole numbers in ``[0, below)``, ``(M,)``."""
    values = record.get(key)
    if isinstance(values, list) and len(values) > most:
        raise ProtocolError(f"{key} must be at most {most} whole numbers, got {len(values)}")
    if not isinstance(values, list) or any(
        type(value) is not int or not 0 <= value < below for value in values
    ):
        raise ProtocolError(
            f"{key} must be whole numbers from 0 to {below - 1}, got {shown(values)}"
        )
    return np.array(values, dtype=np.int64)


def table(record: ConfigRecord, prefix: str) -> dict[str, object]:
    """Return the fields whose key begins with ``prefix``, without it."""
    found: dict[str, object] = {
        key[len(prefix) :]: value for key, value in record.items() if key.startswith(prefix)
    }
    if len(found) > MOST_FACTS:
        raise ProtocolError(f"{prefix}* must be at most {MOST_FACTS} fields, got {len(found)}")
    return found


def seconds_of(key: str, value: object) -> float:
    """Return a duration."""
    if not isinstance(value, float) or not 0 <= value <= MOST_SECONDS:
        raise ProtocolError(
            f"seconds.{key} must be a number from 0 to {MOST_SECONDS:g}, got {shown(value)}"
        )
    return value


def fact_of(key: str, value: object) -> Fact:
    """Return a text or a bounded number; what is computed with is of its own kind and range."""
    if key in _FACTS:
        low, high, whole = _FACTS[key]
        if not _is_number(value, low, high) or (whole and not isinstance(value, int)):
            kind = "a whole number" if whole else "a number"
            raise ProtocolError(
                f"facts.{key} must be {kind} from {low:g} to {high:g}, got {shown(value)}"
            )
        return value
    if isinstance(value, str):
        if len(value) > MOST_FACT or not value.isprintable():
            raise ProtocolError(
                f"facts.{key} must be at most {MOST_FACT} printable characters, got {shown(value)}"
            )
        return value
    if isinstance(value, bool) or _is_number(value, -MOST_NUMBER, MOST_NUMBER):
        return value
    raise ProtocolError(
        f"facts.{key} must be a text or a number from {-MOST_NUMBER:g} to {MOST_NUMBER:g}, got "
        f"{shown(value)}"
    )


def _is_number(value: object, low: float, high: float) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and type(value) is not bool and low <= value <= high
