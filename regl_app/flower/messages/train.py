"""A train request and its reply."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from regl_app.core.bounds import MOST_COUNT, MOST_IMAGES
from regl_app.core.errors import ProtocolError
from regl_app.core.types import Tensors, Weights
from regl_app.flower.messages.adapter import Template, get_adapter
from regl_app.flower.messages.content import (
    ARRAYS,
    METHOD,
    METRICS,
    NUM_EXAMPLES,
    OURS,
    metric_record,
    our_record,
)
from regl_app.flower.messages.fields import (
    MOST_ID,
    at_least,
    fact_of,
    get,
    get_counts,
    get_digest,
    get_numbers,
    number,
    number_of_images,
    put_counts,
    seconds_of,
    shown,
    table,
)
from regl_app.flower.messages.handshake import Handshake
from regl_app.flower.messages.payload_fields import get_payload, put_payload
from regl_app.flower.messages.quality_fields import get_quality, put_quality
from regl_app.flower.messages.weights import check_finite, weights_from_record, weights_to_record
from regl_app.rounds.exchange import RoundResult, RoundTask
from regl_app.supplement.payload import PayloadLimits


@dataclass(frozen=True)
class TrainRequest(RoundTask):
    """The server's request for one round, as it travels."""

    def to_record(self, handshake: Handshake) -> ConfigRecord:
        """Return our record, to stand beside the inner strategy's arrays and config."""
        record = ConfigRecord({"round": self.round, "run-dir": self.run_dir, "run": self.run})
        handshake.write(record)
        put_counts(record, "quotas", self.quotas)
        if self.payload is not None:
            put_payload(record, self.payload)
        return record

    @classmethod
    def read(
        cls,
        content: RecordDict,
        expected: Handshake,
        num_classes: int,
        limits: PayloadLimits | None = None,
        method: Tensors | None = None,
        adapter: Template | None = None,
    ) -> TrainRequest:
        """Return the checked request.

        ``limits`` are what a payload may hold; None where none is expected. ``method`` is the
        template of the method's state, ``adapter`` that of the adapter of all clients; None where
        they have none.

        Raises:
            ProtocolError: other code or configuration, or a field is missing, malformed or larger
                than this run can need.
        """
        record = our_record(content)
        expected.check(record)
        quotas = get_counts(record, "quotas", num_classes)
        payload = get_payload(record, num_classes, limits)
        return cls(
            at_least(record, "round", 1),
            get(record, "run-dir", str),
            quotas,
            payload,
            get(record, "run", str, most=MOST_ID),
            _method(content, method or {}),
            get_adapter(content, adapter),
        )


@dataclass(frozen=True)
class TrainReply(RoundResult):
    """What a client sends after its round, as it travels."""

    @classmethod
    def of(cls, result: RoundResult) -> TrainReply:
        """Return the reply that tells ``result``."""
        return cls(**vars(result))

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
        if self.noisy_counts is not None:
            record["noisy-counts"] = [float(value) for value in self.noisy_counts]
        if self.quality is not None:
            put_quality(record, self.quality)
        if self.adapter:  # Flower cannot count the bytes of an empty text
            record["adapter"] = self.adapter
        for prefix, values in (("seconds.", self.seconds), ("facts.", self.facts)):
            for key, value in values.items():
                record[prefix + key] = value
        metrics = MetricRecord({NUM_EXAMPLES: self.num_examples, "loss": self.loss})
        content = RecordDict({OURS: record, METRICS: metrics})
        if self.weights is not None:
            check_finite(self.weights)
            content[ARRAYS] = weights_to_record(self.weights)
        if self.sent:
            check_finite(self.sent, METHOD)
            content[METHOD] = weights_to_record(self.sent)
        return content

    @classmethod
    def read(
        cls,
        content: RecordDict,
        *,
        server_round: int,
        template: Weights,
        num_classes: int,
        method: Tensors | None = None,
    ) -> TrainReply:
        """Return the checked reply to the request of ``server_round``.

        ``template`` is the model's, ``method`` that of the tensors its method sends.

        Raises:
            ProtocolError: names the key, what was expected and what came.
        """
        record = our_record(content)
        metrics = metric_record(content)
        num_examples, loss = number_of_images(metrics, NUM_EXAMPLES), number(metrics, "loss")
        arrays = content.array_records
        _check_numbers(num_examples, loss, not arrays)
        if arrays and set(arrays) - {METHOD} != {ARRAYS}:
            raise ProtocolError(
                f"the only ArrayRecord must be {ARRAYS!r}, got {shown(sorted(arrays))}"
            )
        if (seen := at_least(record, "round", 1)) != server_round:
            raise ProtocolError(f"round must be {server_round}, got {seen} (a late reply)")
        return cls(
            partition_id=at_least(record, "partition-id", 0),
            round=server_round,
            num_examples=num_examples,
            real_images=at_least(record, "real-images", 0, MOST_IMAGES),
            loss=loss,
            weights=weights_from_record(arrays[ARRAYS], template) if arrays else None,
            discrepancy=get_numbers(record, "discrepancy", num_classes, 1),
            held=get_counts(record, "held", num_classes),
            real_counts=get_counts(record, "real-counts", num_classes),
            synthetic_counts=get_counts(record, "synthetic-counts", num_classes),
            noisy_counts=get_numbers(record, "noisy-counts", num_classes, MOST_COUNT),
            quality=get_quality(record, num_classes),
            adapter=get_digest(record, "adapter"),
            seconds={k: seconds_of(k, v) for k, v in table(record, "seconds.").items()},
            facts={k: fact_of(k, v) for k, v in table(record, "facts.").items()},
            sent=_method(content, method or {}) if arrays else {},
        )


def _method(content: RecordDict, template: Tensors) -> Tensors:
    """Return the tensors of the run's method, bounded by ``template``."""
    record = content.array_records.get(METHOD)
    if (record is None) != (not template):
        raise ProtocolError(
            f"an ArrayRecord {METHOD!r} is {'missing' if record is None else 'not expected'}: "
            f"the run's method has {len(template)} tensors of its own"
        )
    return {} if record is None else weights_from_record(record, template, METHOD)


def _check_numbers(num_examples: int, loss: float, without_weights: bool) -> None:
    if not math.isfinite(loss):
        raise ProtocolError(f"loss must be finite, got {loss} (training diverged: lower train.lr)")
    if (num_examples == 0) != without_weights:
        raise ProtocolError(
            f"{NUM_EXAMPLES}={num_examples} contradicts a reply "
            f"with{'out' if without_weights else ''} {ARRAYS}"
        )
