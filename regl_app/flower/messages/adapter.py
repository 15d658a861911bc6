"""A request to tune the adapter of all clients, its reply, and that adapter in a train request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import ConfigRecord, RecordDict

from regl_app.core.bounds import MOST_IMAGES
from regl_app.core.errors import ProtocolError
from regl_app.core.types import Tensors
from regl_app.flower.messages.content import ADAPTER, OURS, our_record, request_record
from regl_app.flower.messages.fields import (
    at_least,
    fact_of,
    get_digest,
    seconds_of,
    table,
)
from regl_app.flower.messages.handshake import Handshake
from regl_app.flower.messages.weights import check_finite, weights_from_record, weights_to_record
from regl_app.generator.adaptation.shared import SharedAdapter
from regl_app.rounds.shared_adapter import AdapterResult, AdapterTask

Template = Callable[[], Tensors]
"""Returns zeros with the names, shapes and type of an adapter's B: asked for where there is one."""
_ROUND = "adapter-round"


@dataclass(frozen=True)
class AdapterRequest(AdapterTask):
    """The server's request for one round of tuning, as it travels."""

    def to_content(self, handshake: Handshake) -> RecordDict:
        """Return the request's content."""
        record = request_record(0, handshake)
        record[_ROUND] = self.number
        content = RecordDict({OURS: record})
        if self.up:
            content[ADAPTER] = weights_to_record(self.up)
        return content

    @classmethod
    def read(
        cls, content: RecordDict, expected: Handshake, template: Template | None
    ) -> AdapterRequest:
        """Return the checked request.

        Raises:
            ProtocolError: other code or configuration, a field is missing or malformed, or this run
                has no adapter for all (``template`` is None).
        """
        record = our_record(content)
        expected.check(record)
        if template is None:
            raise ProtocolError("a request to tune an adapter needs supplement.adapter='shared'")
        return cls(at_least(record, _ROUND, 1), _up(content, template))


@dataclass(frozen=True)
class AdapterReply(AdapterResult):
    """A client's part in a round of tuning, as it travels."""

    @classmethod
    def of(cls, result: AdapterResult) -> AdapterReply:
        """Return the reply that tells ``result``."""
        return cls(**vars(result))

    def to_content(self) -> RecordDict:
        """Return the reply's content.

        Raises:
            ProtocolError: what was tuned is not finite.
        """
        record = ConfigRecord(
            {"partition-id": self.partition_id, _ROUND: self.number, "images": self.images}
        )
        for prefix, values in (("seconds.", self.seconds), ("facts.", self.facts)):
            for key, value in values.items():
                record[prefix + key] = value
        content = RecordDict({OURS: record})
        if self.up:
            check_finite(self.up, ADAPTER)
            content[ADAPTER] = weights_to_record(self.up)
        return content

    @classmethod
    def read(cls, content: RecordDict, *, number: int, template: Tensors) -> AdapterReply:
        """Return the checked reply to the request of round ``number``.

        Raises:
            ProtocolError: names the key, what was expected and what came.
        """
        record = our_record(content)
        if (seen := at_least(record, _ROUND, 1)) != number:
            raise ProtocolError(f"{_ROUND} must be {number}, got {seen} (a late reply)")
        images, up = at_least(record, "images", 0, MOST_IMAGES), _up(content, lambda: template)
        if (images == 0) != (not up):
            raise ProtocolError(
                f"images={images} contradicts a reply with{'' if up else 'out'} {ADAPTER}"
            )
        return cls(
            partition_id=at_least(record, "partition-id", 0),
            number=number,
            images=images,
            up=up,
            seconds={k: seconds_of(k, v) for k, v in table(record, "seconds.").items()},
            facts={k: fact_of(k, v) for k, v in table(record, "facts.").items()},
        )


def put_adapter(content: RecordDict, adapter: SharedAdapter | None) -> None:
    """Write the adapter of all clients into a train request that has our record already."""
    if adapter is None:
        return
    content.config_records[OURS][ADAPTER] = adapter.digest
    if adapter.up:
        content[ADAPTER] = weights_to_record(adapter.up)


def get_adapter(content: RecordDict, template: Template | None) -> SharedAdapter | None:
    """Return the adapter of all clients in a train request, None if there is none.

    Raises:
        ProtocolError: it is malformed, another than its digest says, or this run has none.
    """
    digest = get_digest(our_record(content), ADAPTER)
    if template is None or not digest:
        if digest or ADAPTER in content:
            raise ProtocolError(
                f"a request must hold no {ADAPTER} without "
                + ("supplement.adapter='shared'" if template is None else "its digest")
            )
        return None
    up = _up(content, template)
    if up and (seen := SharedAdapter.of(up).digest) != digest:
        raise ProtocolError(f"{ADAPTER} must have digest {digest!r}, got {seen!r}")
    return SharedAdapter(digest, up)


def _up(content: RecordDict, template: Template) -> Tensors:
    """Return B, empty if none came."""
    arrays = content.array_records
    return weights_from_record(arrays[ADAPTER], template(), ADAPTER) if ADAPTER in arrays else {}
