"""A message's content: which records it has, their sizes, what a request begins with."""

from __future__ import annotations

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from regl_app.core.errors import ProtocolError
from regl_app.core.types import Tensors
from regl_app.flower.messages.arrays import MOST_HEADER
from regl_app.flower.messages.fields import (
    MOST_ID,
    at_least,
    check_fields,
    get,
    shown,
)
from regl_app.flower.messages.handshake import Handshake

ADAPTER, ARRAYS, METHOD, METRICS, OURS = "adapter", "arrays", "method", "metrics", "regl"


NUM_EXAMPLES = "num-examples"


_RECORDS_BYTES = 2**20


def request_record(server_round: int, handshake: Handshake, run: str = "") -> ConfigRecord:
    """Return our record of a request that needs no more than a round: hello (0) and evaluate.

    ``run`` is told where clients need it, to find what of the model they keep.
    """
    record = ConfigRecord({"round": server_round})
    if run:
        record["run"] = run
    handshake.write(record)
    return record


def read_request(content: RecordDict, expected: Handshake) -> int:
    """Return the round of a hello or evaluate request, sent by the same code and configuration.

    Raises:
        ProtocolError: see :meth:`Handshake.check`.
    """
    record = our_record(content)
    expected.check(record)
    return at_least(record, "round", 0)


def run_of(content: RecordDict) -> str:
    """Return the run that a request belongs to, '' if it does not say."""
    record = our_record(content)
    return get(record, "run", str, most=MOST_ID) if "run" in record else ""


def arrays_of(content: RecordDict) -> ArrayRecord:
    """Return the model in a request from the server.

    Raises:
        ProtocolError: there is none.
    """
    arrays = content.array_records.get(ARRAYS)
    if arrays is None:
        raise ProtocolError(f"an ArrayRecord {ARRAYS!r} is missing, got {shown(sorted(content))}")
    return arrays


def without_ours(content: RecordDict) -> RecordDict:
    """Return ``content`` as an inner strategy expects it: our records taken out."""
    return RecordDict({key: record for key, record in content.items() if key not in (OURS, METHOD)})


def count_bytes(content: RecordDict) -> int:
    """Return the size of a message's content in bytes (payload, without Flower's headers).

    Raises:
        ProtocolError: it holds an empty text or list, which Flower cannot count.
    """
    try:
        return sum(record.count_bytes() for record in content.values())
    except (IndexError, ValueError, TypeError) as error:
        raise ProtocolError(f"content holds an empty text or list ({error})") from error


def most_bytes(num_classes: int, *templates: Tensors) -> int:
    """Return the most bytes that a reply may have: its records, and the tensors of ``templates``.

    The largest field is the confusion of ``num_classes`` classes for one another.
    """
    arrays = [item for template in templates for item in template.items()]
    return (
        _RECORDS_BYTES
        + 8 * num_classes * (num_classes + 8)
        + sum(
            value.numel() * value.element_size() + MOST_HEADER + len(key) for key, value in arrays
        )
    )


def check_size(content: RecordDict, most: int) -> int:
    """Return the size of ``content`` in bytes, looked at before anything is decoded.

    Raises:
        ProtocolError: it is larger than ``most``, or holds what Flower cannot count.
    """
    size = count_bytes(content)
    if size > most:
        raise ProtocolError(f"a reply must have at most {most} bytes, got {size}")
    return size


def our_record(content: RecordDict) -> ConfigRecord:
    record = content.config_records.get(OURS)
    if record is None:
        raise ProtocolError(f"a ConfigRecord {OURS!r} is missing, got {shown(sorted(content))}")
    check_fields(OURS, record)
    return record


def metric_record(content: RecordDict) -> MetricRecord:
    if set(content.metric_records) != {METRICS}:
        raise ProtocolError(
            f"the only MetricRecord must be {METRICS!r}, got "
            f"{shown(sorted(content.metric_records))}"
        )
    check_fields(METRICS, content.metric_records[METRICS])
    return content.metric_records[METRICS]
