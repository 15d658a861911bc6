"""What a client says of itself before the first round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, RecordDict

from regl_app.core.errors import ProtocolError
from regl_app.core.types import Counts
from regl_app.flower.messages.alike import get_alike, put_alike
from regl_app.flower.messages.content import OURS, our_record
from regl_app.flower.messages.fields import (
    MOST_ID,
    at_least,
    get,
    get_counts,
    put_counts,
)

MOST_PARTITIONS = 100_000


@dataclass(frozen=True)
class ClientInfo:
    """A client introduces itself: which partition it holds; its labels only if they are shared.

    ``pool`` is the digest of the shared pool that it could make, '' if it has no generator.
    ``alike`` are digests of what all clients must have alike (``alike_here``).
    """

    partition_id: int
    num_partitions: int
    real_counts: Counts | None = None
    pool: str = ""
    alike: Mapping[str, str] = field(default_factory=dict)

    def to_content(self) -> RecordDict:
        """Return the reply's content."""
        record = ConfigRecord(
            {
                "partition-id": self.partition_id,
                "num-partitions": self.num_partitions,
            }
        )
        if self.pool:  # not an empty text, see TrainReply
            record["pool"] = self.pool
        put_alike(record, self.alike)
        put_counts(record, "real-counts", self.real_counts)
        return RecordDict({OURS: record})

    @classmethod
    def read(cls, content: RecordDict, num_classes: int) -> ClientInfo:
        """Return the checked message.

        Raises:
            ProtocolError: names the key, what was expected and what came.
        """
        record = our_record(content)
        total = at_least(record, "num-partitions", 1, MOST_PARTITIONS)
        partition_id = at_least(record, "partition-id", 0)
        if partition_id >= total:
            raise ProtocolError(
                f"partition-id must be < num-partitions={total}, got {partition_id}"
            )
        real_counts = get_counts(record, "real-counts", num_classes)
        return cls(
            partition_id,
            total,
            real_counts,
            get(record, "pool", str, most=MOST_ID) if "pool" in record else "",
            get_alike(record),
        )
