"""The fields of a request that carry images from the server: a payload."""

from __future__ import annotations

from flwr.app import ConfigRecord

from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.fields import (
    MOST_ID,
    get,
    get_counts,
    get_digest,
    put_counts,
    whole_numbers,
)
from regl_app.supplement.payload import Payload, PayloadLimits, PoolReference


def put_payload(record: ConfigRecord, payload: Payload) -> None:
    """Write a payload."""
    record["payload-labels"] = [int(value) for value in payload.labels]
    if payload.opinion:
        record["payload-opinion"] = payload.opinion
    reference = payload.reference
    if reference is None:
        record["payload-pixels"] = payload.pixels  # never empty, even of no images
        return
    record["payload-pool"] = reference.pool
    record["payload-places"] = [int(value) for value in reference.indices]
    put_counts(record, "payload-sequence", reference.sequence)
    if reference.adapter:
        record["payload-adapter"] = reference.adapter
    if payload.adapter_file:
        record["payload-adapter-file"] = payload.adapter_file


def get_payload(
    record: ConfigRecord, num_classes: int, limits: PayloadLimits | None
) -> Payload | None:
    """Return the payload, None if there is none.

    Args:
        record: from the server.
        num_classes: C.
        limits: what it may hold; None where none may come.

    Raises:
        ProtocolError: it is malformed, larger than ``limits``, or none may come.
    """
    if "payload-labels" not in record:
        return None
    if limits is None:
        raise ProtocolError("a request must hold no payload-labels where the client generates")
    labels = whole_numbers(record, "payload-labels", num_classes, limits.images)
    opinion = b""
    if "payload-opinion" in record:
        opinion = get(record, "payload-opinion", bytes, most=len(labels) * num_classes)
    if "payload-places" not in record:
        most = limits.pixels(len(labels))
        pixels = get(record, "payload-pixels", bytes, most=most)
        return Payload(labels, pixels=pixels, opinion=opinion)
    if "payload-pixels" in record:
        raise ProtocolError("a payload must have payload-places or payload-pixels, got both")
    reference = PoolReference(
        get(record, "payload-pool", str, most=MOST_ID),
        whole_numbers(record, "payload-places", 2**31, len(labels)),
        get_digest(record, "payload-adapter"),
        get_counts(record, "payload-sequence", num_classes),
    )
    if reference.adapter and reference.sequence is None:
        raise ProtocolError("payload-adapter needs a payload-sequence, got none")
    file = (
        get(record, "payload-adapter-file", bytes, most=limits.adapter())
        if "payload-adapter-file" in record
        else b""
    )
    if file and not reference.adapter:
        raise ProtocolError("payload-adapter-file needs a payload-adapter, got none")
    return Payload(labels, reference, adapter_file=file, opinion=opinion)
