"""What server and clients say to each other: typed messages <-> Flower records.

The only module that knows record and key names. Our own fields travel in one ConfigRecord
``regl`` beside Flower's usual ``arrays``, ``metrics`` and ``config``, so that a wrapping strategy
can take them out and hand the rest on to any Flower strategy. Everything is checked where it is
written and again where it is read: a message that passes can be used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from regl_app.core.errors import ProtocolError
from regl_app.core.types import Counts, Fact
from regl_app.envelope import Envelope
from regl_app.parcel_fields import get_parcel, put_parcel
from regl_app.record_arrays import MOST_HEADER, decode
from regl_app.record_fields import (
    MOST_ID,
    at_least,
    check_fields,
    fact_of,
    get,
    get_counts,
    get_digest,
    number,
    put_counts,
    seconds_of,
    shown,
    table,
)
from regl_app.supplement.payload import Parcel, ParcelLimits

ARRAYS, METRICS, OURS = "arrays", "metrics", "regl"
NUM_EXAMPLES = "num-examples"
MOST_PARTITIONS = 100_000
_RECORDS_BYTES = 2**20

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Hello:
    """A client introduces itself: which partition it holds; its labels only if they are shared.

    ``pool`` is the digest of the shared pool that it could make, '' if it has no generator.
    """

    partition_id: int
    num_partitions: int
    real_counts: Counts | None = None
    pool: str = ""

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
        put_counts(record, "real-counts", self.real_counts)
        return RecordDict({OURS: record})

    @classmethod
    def read(cls, content: RecordDict, num_classes: int) -> Hello:
        """Return the checked message.

        Raises:
            ProtocolError: names the key, what was expected and what came.
        """
        record = _ours(content)
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
        )


@dataclass(frozen=True)
class TrainInstruction:
    """The server's order for one round; ``quotas`` (C,) is None where the client plans itself.

    ``parcel`` holds images that the server made for the client, if it did; ``run`` tells this run
    from any other, also from one that had the same folder.
    """

    round: int
    run_dir: str = ""
    quotas: Counts | None = None
    parcel: Parcel | None = None
    run: str = ""

    def to_record(self, envelope: Envelope) -> ConfigRecord:
        """Return our record, to stand beside the inner strategy's arrays and config."""
        record = ConfigRecord({"round": self.round, "run-dir": self.run_dir, "run": self.run})
        envelope.write(record)
        put_counts(record, "quotas", self.quotas)
        if self.parcel is not None:
            put_parcel(record, self.parcel)
        return record

    @classmethod
    def read(
        cls,
        content: RecordDict,
        expected: Envelope,
        num_classes: int,
        limits: ParcelLimits | None = None,
    ) -> TrainInstruction:
        """Return the checked order.

        ``limits`` are what a parcel may hold; None where none is expected.

        Raises:
            ProtocolError: other code or configuration, or a field is missing, malformed or larger
                than this run can need.
        """
        record = _ours(content)
        expected.check(record)
        quotas = get_counts(record, "quotas", num_classes)
        parcel = get_parcel(record, num_classes, limits)
        return cls(
            at_least(record, "round", 1),
            get(record, "run-dir", str),
            quotas,
            parcel,
            get(record, "run", str, most=MOST_ID),
        )


@dataclass(frozen=True)
class TrainReply:
    """What a client sends after its round.

    ``weights`` is None for a client without images: it takes no part in the average.
    ``num_examples`` counts real and synthetic images trained on, the weight in FedAvg.
    ``held`` (C,) are this round's quotas, on which the server plans (policy ``discrepancy``);
    ``real_counts`` and ``synthetic_counts`` (C,) are diagnostics and absent where labels are
    private. ``adapter`` is the digest of the server's adapter that the client keeps, '' if none.
    ``facts`` are numbers and texts for the run's history.
    """

    partition_id: int
    round: int
    num_examples: int
    real_images: int
    loss: float
    weights: Weights | None
    discrepancy: npt.NDArray[np.float64] | None = None
    held: Counts | None = None
    real_counts: Counts | None = None
    synthetic_counts: Counts | None = None
    adapter: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def to_content(self) -> RecordDict:
        """Return the reply's content.

        Raises:
            ProtocolError: the client's own result is not fit to be sent (e.g. it diverged).
        """
        _check_numbers(self.num_examples, self.loss, self.weights is None)
        record = ConfigRecord(
            {
                "partition-id": self.partition_id,
                "round": self.round,
                "real-images": self.real_images,
            }
        )
        if self.discrepancy is not None:
            record["discrepancy"] = [float(value) for value in self.discrepancy]
        put_counts(record, "held", self.held)
        put_counts(record, "real-counts", self.real_counts)
        put_counts(record, "synthetic-counts", self.synthetic_counts)
        if self.adapter:  # Flower cannot count the bytes of an empty text
            record["adapter"] = self.adapter
        for prefix, values in (("seconds.", self.seconds), ("facts.", self.facts)):
            for key, value in values.items():
                record[prefix + key] = value
        metrics = MetricRecord({NUM_EXAMPLES: self.num_examples, "loss": self.loss})
        content = RecordDict({OURS: record, METRICS: metrics})
        if self.weights is not None:
            _check_finite(self.weights)
            content[ARRAYS] = weights_to_record(self.weights)
        return content

    @classmethod
    def read(
        cls, content: RecordDict, *, server_round: int, template: Weights, num_classes: int
    ) -> TrainReply:
        """Return the checked reply to the order of ``server_round``.

        Raises:
            ProtocolError: names the key, what was expected and what came.
        """
        record = _ours(content)
        metrics = _metrics(content)
        num_examples, loss = number(metrics, NUM_EXAMPLES), number(metrics, "loss")
        if not isinstance(num_examples, int):
            raise ProtocolError(f"{NUM_EXAMPLES} must be a whole number, got {shown(num_examples)}")
        arrays = content.array_records
        _check_numbers(num_examples, loss, not arrays)
        if arrays and set(arrays) != {ARRAYS}:
            raise ProtocolError(
                f"the only ArrayRecord must be {ARRAYS!r}, got {shown(sorted(arrays))}"
            )
        if (seen := at_least(record, "round", 1)) != server_round:
            raise ProtocolError(f"round must be {server_round}, got {seen} (a late reply)")
        return cls(
            partition_id=at_least(record, "partition-id", 0),
            round=server_round,
            num_examples=num_examples,
            real_images=at_least(record, "real-images", 0),
            loss=loss,
            weights=weights_from_record(arrays[ARRAYS], template) if arrays else None,
            discrepancy=_discrepancy(record, num_classes),
            held=get_counts(record, "held", num_classes),
            real_counts=get_counts(record, "real-counts", num_classes),
            synthetic_counts=get_counts(record, "synthetic-counts", num_classes),
            adapter=get_digest(record, "adapter"),
            seconds={k: seconds_of(k, v) for k, v in table(record, "seconds.").items()},
            facts={k: fact_of(k, v) for k, v in table(record, "facts.").items()},
        )


@dataclass(frozen=True)
class EvaluateReply:
    """The global model on a client's own test set; all zero where that is empty.

    ``confusion`` (C, C) counts the classes that were taken for one another; absent where labels
    are private, or the server has test images of its own.
    """

    partition_id: int
    round: int
    num_examples: int
    accuracy: float = 0.0
    macro_f1: float = 0.0
    loss: float = 0.0
    confusion: Counts | None = None

    def to_content(self) -> RecordDict:
        """Return the reply's content."""
        values = {"accuracy": self.accuracy, "macro-f1": self.macro_f1, "loss": self.loss}
        record = ConfigRecord({"partition-id": self.partition_id, "round": self.round})
        put_counts(record, "confusion", None if self.confusion is None else self.confusion.ravel())
        return RecordDict(
            {
                OURS: record,
                METRICS: MetricRecord({NUM_EXAMPLES: self.num_examples, **values}),
            }
        )

    @classmethod
    def read(cls, content: RecordDict, *, server_round: int, num_classes: int) -> EvaluateReply:
        """Return the checked reply.

        Raises:
            ProtocolError: names the key, what was expected and what came.
        """
        record, metrics = _ours(content), _metrics(content)
        if (seen := at_least(record, "round", 1)) != server_round:
            raise ProtocolError(f"round must be {server_round}, got {seen} (a late reply)")
        values = {key: number(metrics, key) for key in ("accuracy", "macro-f1", "loss")}
        for key in ("accuracy", "macro-f1"):
            if not 0 <= values[key] <= 1:
                raise ProtocolError(f"{key} must be between 0 and 1, got {values[key]}")
        examples = number(metrics, NUM_EXAMPLES)
        if not isinstance(examples, int) or examples < 0:
            raise ProtocolError(
                f"{NUM_EXAMPLES} must be a whole number >= 0, got {shown(examples)}"
            )
        partition_id = at_least(record, "partition-id", 0)
        confusion = get_counts(record, "confusion", num_classes**2)
        if confusion is not None:
            if confusion.sum() != examples:
                raise ProtocolError(
                    f"confusion must count {NUM_EXAMPLES}={examples} images, got {confusion.sum()}"
                )
            confusion = confusion.reshape(num_classes, num_classes)
        accuracy, macro_f1, loss = map(float, values.values())
        return cls(partition_id, server_round, examples, accuracy, macro_f1, loss, confusion)


def order_record(server_round: int, envelope: Envelope) -> ConfigRecord:
    """Return our record of an order that needs no more than a round: hello (0) and evaluate."""
    record = ConfigRecord({"round": server_round})
    envelope.write(record)
    return record


def read_order(content: RecordDict, expected: Envelope) -> int:
    """Return the round of a hello or evaluate order, sent by the same code and configuration.

    Raises:
        ProtocolError: see :meth:`Envelope.check`.
    """
    record = _ours(content)
    expected.check(record)
    return at_least(record, "round", 0)


def weights_to_record(weights: Weights) -> ArrayRecord:
    """Return a model's state as Flower arrays."""
    return ArrayRecord({key: value.detach().cpu() for key, value in weights.items()})


def weights_from_record(record: ArrayRecord, template: Weights) -> dict[str, torch.Tensor]:
    """Return the arrays as a state of the same names, shapes and types as ``template``.

    Raises:
        ProtocolError: they differ, cannot be decoded, or are not finite.
    """
    if set(record) != set(template):
        odd = sorted(set(record) ^ set(template))
        raise ProtocolError(
            f"{ARRAYS} must hold the model's {len(template)} arrays; differ: {shown(odd)}"
        )
    weights = {
        key: torch.from_numpy(
            decode(
                f"{ARRAYS}[{key!r}]",
                record[key],
                str(wanted.dtype).removeprefix("torch."),
                tuple(wanted.shape),
            )
        )
        for key, wanted in template.items()
    }
    _check_finite(weights)
    return weights


def arrays_of(content: RecordDict) -> ArrayRecord:
    """Return the model in an order from the server.

    Raises:
        ProtocolError: there is none.
    """
    arrays = content.array_records.get(ARRAYS)
    if arrays is None:
        raise ProtocolError(f"an ArrayRecord {ARRAYS!r} is missing, got {shown(sorted(content))}")
    return arrays


def without_ours(content: RecordDict) -> RecordDict:
    """Return ``content`` as an inner strategy expects it: our record taken out."""
    return RecordDict({key: record for key, record in content.items() if key != OURS})


def count_bytes(content: RecordDict) -> int:
    """Return the size of a message's content in bytes (payload, without Flower's headers).

    Raises:
        ProtocolError: it holds an empty text or list, which Flower cannot count.
    """
    try:
        return sum(record.count_bytes() for record in content.values())
    except (IndexError, ValueError, TypeError) as error:
        raise ProtocolError(f"content holds an empty text or list ({error})") from error


def most_bytes(num_classes: int, template: Weights | None = None) -> int:
    """Return the most bytes that a reply may have: a model's, if there is one, and its records.

    The largest field is the confusion of ``num_classes`` classes for one another.
    """
    arrays = (template or {}).items()
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


def _ours(content: RecordDict) -> ConfigRecord:
    record = content.config_records.get(OURS)
    if record is None:
        raise ProtocolError(f"a ConfigRecord {OURS!r} is missing, got {shown(sorted(content))}")
    check_fields(OURS, record)
    return record


def _metrics(content: RecordDict) -> MetricRecord:
    if set(content.metric_records) != {METRICS}:
        raise ProtocolError(
            f"the only MetricRecord must be {METRICS!r}, got "
            f"{shown(sorted(content.metric_records))}"
        )
    check_fields(METRICS, content.metric_records[METRICS])
    return content.metric_records[METRICS]


def _discrepancy(record: ConfigRecord, num_classes: int) -> npt.NDArray[np.float64] | None:
    values = record.get("discrepancy")
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != num_classes
        or any(type(value) is not float or not -1 <= value <= 1 for value in values)
    ):
        raise ProtocolError(
            f"discrepancy must be {num_classes} numbers in [-1, 1], got {shown(values)}"
        )
    return np.array(values, dtype=np.float64)


def _check_numbers(num_examples: int, loss: float, without_weights: bool) -> None:
    if num_examples < 0:
        raise ProtocolError(f"{NUM_EXAMPLES} must be >= 0, got {num_examples}")
    if not math.isfinite(loss):
        raise ProtocolError(f"loss must be finite, got {loss} (training diverged: lower train.lr)")
    if (num_examples == 0) != without_weights:
        raise ProtocolError(
            f"{NUM_EXAMPLES}={num_examples} contradicts a reply "
            f"with{'out' if without_weights else ''} {ARRAYS}"
        )


def _check_finite(weights: Weights) -> None:
    for key, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ProtocolError(
                f"{ARRAYS}[{key!r}] must be finite, got NaN or infinity "
                "(training diverged: lower train.lr)"
            )
