"""A client's reply to an evaluate request."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from regl_app.core.bounds import MOST_IMAGES
from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.content import METRICS, NUM_EXAMPLES, OURS, metric_record, our_record
from regl_app.flower.messages.fields import (
    at_least,
    get,
    get_counts,
    number,
    number_of_images,
    put_counts,
)
from regl_app.rounds.exchange import EvaluationResult, Validation


@dataclass(frozen=True)
class EvaluateReply(EvaluationResult):
    """A client's measurement of the global model, as it travels."""

    @classmethod
    def of(cls, result: EvaluationResult) -> EvaluateReply:
        """Return the reply that tells ``result``."""
        return cls(**vars(result))

    def to_content(self) -> RecordDict:
        """Return the reply's content."""
        values = {"accuracy": self.accuracy, "macro-f1": self.macro_f1, "loss": self.loss}
        record = ConfigRecord({"partition-id": self.partition_id, "round": self.round})
        put_counts(record, "confusion", None if self.confusion is None else self.confusion.ravel())
        if self.validation is not None:
            for key, value in vars(self.validation).items():
                record[f"validation-{key}"] = value
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
        record, metrics = our_record(content), metric_record(content)
        if (seen := at_least(record, "round", 1)) != server_round:
            raise ProtocolError(f"round must be {server_round}, got {seen} (a late reply)")
        values = {key: number(metrics, key) for key in ("accuracy", "macro-f1", "loss")}
        for key in ("accuracy", "macro-f1"):
            if not 0 <= values[key] <= 1:
                raise ProtocolError(f"{key} must be between 0 and 1, got {values[key]}")
        examples = number_of_images(metrics, NUM_EXAMPLES)
        partition_id = at_least(record, "partition-id", 0)
        confusion = get_counts(record, "confusion", num_classes**2)
        if confusion is not None:
            # Python's numbers: of thousands of classes those of int64 could come round to it.
            if (counted := sum(confusion.tolist())) != examples:
                raise ProtocolError(
                    f"confusion must count {NUM_EXAMPLES}={examples} images, got {counted}"
                )
            confusion = confusion.reshape(num_classes, num_classes)
        accuracy, macro_f1, loss = map(float, values.values())
        return cls(
            partition_id,
            server_round,
            examples,
            accuracy,
            macro_f1,
            loss,
            confusion,
            _validation(record),
        )


def _validation(record: ConfigRecord) -> Validation | None:
    """Return what was measured on validation images; a loss may be no number, as it is compared."""
    if "validation-images" not in record:
        return None
    images = at_least(record, "validation-images", 1, MOST_IMAGES)
    accuracy = get(record, "validation-accuracy", float)
    if not 0 <= accuracy <= 1:
        raise ProtocolError(f"validation-accuracy must be between 0 and 1, got {accuracy}")
    loss = get(record, "validation-loss", float)
    if loss < 0:
        raise ProtocolError(f"validation-loss must be at least 0, got {loss}")
    return Validation(images, accuracy, loss)
