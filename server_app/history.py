"""From what one round brought to its line in the run's history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from regl_app.evaluation.metrics import Metrics
from regl_app.protocol import EvaluateReply, TrainReply
from regl_app.records import GlobalMetrics, Personalized, PhaseSeconds, RoundRecord, Traffic
from server_app.inbox import Inbox


@dataclass(frozen=True)
class Round:
    """All that happened in one round, as the server saw it."""

    number: int
    metrics: Metrics
    trained: Inbox[TrainReply] | None = None
    evaluated: Inbox[EvaluateReply] | None = None
    server_seconds: Mapping[str, float] = field(default_factory=dict)
    wall_seconds: float = 0.0


def round_record(result: Round, num_clients: int) -> RoundRecord:
    """Return the history's record of ``result``; matrices are K x C with K ``num_clients``."""
    replies = result.trained.replies if result.trained else {}
    inboxes = [inbox for inbox in (result.trained, result.evaluated) if inbox is not None]

    def rows(of: Callable[[TrainReply], object]) -> list[object] | None:
        found = [of(replies[k]) if k in replies else None for k in range(num_clients)]
        return found if any(row is not None for row in found) else None

    phases = sorted({phase for reply in replies.values() for phase in reply.seconds})
    return RoundRecord.model_validate(
        {
            "round": result.number,
            "metrics": GlobalMetrics(
                accuracy=result.metrics.accuracy,
                macro_f1=result.metrics.macro_f1,
                loss=result.metrics.loss,
                per_class=result.metrics.per_class,
            ),
            "personalized": _personalized(result.evaluated),
            "discrepancy": rows(lambda reply: reply.discrepancy),
            "quotas": rows(lambda reply: reply.held),
            "real_counts": rows(lambda reply: reply.real_counts),
            "synthetic_counts": rows(lambda reply: reply.synthetic_counts),
            "seconds": PhaseSeconds(
                clients={
                    phase: [
                        replies[k].seconds.get(phase) if k in replies else None
                        for k in range(num_clients)
                    ]
                    for phase in phases
                },
                server=dict(result.server_seconds),
                wall=result.wall_seconds,
            ),
            "bytes": Traffic(
                down=sum(inbox.bytes_down for inbox in inboxes),
                up=sum(inbox.bytes_up for inbox in inboxes),
            ),
            "clients": {key: dict(reply.facts) for key, reply in replies.items()},
            "failures": [failure for inbox in inboxes for failure in inbox.failures],
        }
    )


def _personalized(evaluated: Inbox[EvaluateReply] | None) -> Personalized | None:
    if evaluated is None:
        return None
    accuracies = {k: r.accuracy for k, r in evaluated.replies.items() if r.num_examples > 0}
    if not accuracies:
        return None
    return Personalized(mean=sum(accuracies.values()) / len(accuracies), per_client=accuracies)
