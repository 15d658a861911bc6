"""The fields of an order that carry images from the server: a parcel."""

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
from regl_app.supplement.payload import Parcel, ParcelLimits, Reference


def put_parcel(record: ConfigRecord, parcel: Parcel) -> None:
    """Write a parcel."""
    record["parcel-labels"] = [int(value) for value in parcel.labels]
    reference = parcel.reference
    if reference is None:
        record["parcel-pixels"] = parcel.pixels  # never empty, even of no images
        return
    record["parcel-pool"] = reference.pool
    record["parcel-places"] = [int(value) for value in reference.places]
    put_counts(record, "parcel-sequence", reference.sequence)
    if reference.adapter:
        record["parcel-adapter"] = reference.adapter
    if parcel.adapter_file:
        record["parcel-adapter-file"] = parcel.adapter_file


def get_parcel(
    record: ConfigRecord, num_classes: int, limits: ParcelLimits | None
) -> Parcel | None:
    """Return the parcel, None if there is none.

    Args:
        record: from the server.
        num_classes: C.
        limits: what it may hold; None where none may come.

    Raises:
        ProtocolError: it is malformed, larger than ``limits``, or none may come.
    """
    if "parcel-labels" not in record:
        return None
    if limits is None:
        raise ProtocolError("an order must hold no parcel-labels where the client generates")
    labels = whole_numbers(record, "parcel-labels", num_classes, limits.images)
    if "parcel-places" not in record:
        most = limits.pixels(len(labels))
        return Parcel(labels, pixels=get(record, "parcel-pixels", bytes, most=most))
    if "parcel-pixels" in record:
        raise ProtocolError("a parcel must have parcel-places or parcel-pixels, got both")
    reference = Reference(
        get(record, "parcel-pool", str, most=MOST_ID),
        whole_numbers(record, "parcel-places", 2**31, len(labels)),
        get_digest(record, "parcel-adapter"),
        get_counts(record, "parcel-sequence", num_classes),
    )
    if reference.adapter and reference.sequence is None:
        raise ProtocolError("parcel-adapter needs a parcel-sequence, got none")
    file = (
        get(record, "parcel-adapter-file", bytes, most=limits.adapter())
        if "parcel-adapter-file" in record
        else b""
    )
    if file and not reference.adapter:
        raise ProtocolError("parcel-adapter-file needs a parcel-adapter, got none")
    return Parcel(labels, reference, adapter_file=file)
