"""From what one round brought to its line in the run's history."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from regl_app.core.types import Counts
from regl_app.flower.messages.evaluate import EvaluateReply
from regl_app.flower.messages.train import TrainReply
from regl_app.learning.evaluation.label_fit import LabelFit, label_fits
from regl_app.learning.evaluation.metrics import Metrics
from regl_app.rounds.exchange import Validation
from regl_app.runs.confusions import MOST_CLASSES
from regl_app.runs.records import (
    GlobalMetrics,
    LabelFits,
    Personalized,
    PhaseSeconds,
    RoundRecord,
    Traffic,
)
from regl_app.supplement.image_quality import MEASURES
from server_app.replies import Replies

_Row = TypeVar("_Row")
Rows = Callable[[Callable[[TrainReply], Any]], list[Any] | None]


@dataclass(frozen=True)
class Round:
    """All that happened in one round, as the server saw it."""

    number: int
    metrics: Metrics
    tail: Metrics | None = None
    trained: Replies[TrainReply] | None = None
    evaluated: Replies[EvaluateReply] | None = None
    server_seconds: Mapping[str, float] = field(default_factory=dict)
    before: Sequence[Replies[Any]] = ()
    """What came before it or beside it, whose bytes and failures count to it."""
    lr: float | None = None
    """The clients' learning rate, where it changes from round to round."""
    validation: Validation | None = None


def round_record(
    result: Round,
    num_clients: int,
    overall: Counts | None = None,
    *,
    wall_seconds: float = 0.0,
) -> RoundRecord:
    """Return the history's record of ``result``; matrices are K x C with K ``num_clients``.

    ``overall`` are all clients' training images per class, ``(C,)``, if they are known;
    ``wall_seconds`` are the round's from its first request on.
    """
    replies = result.trained.replies if result.trained else {}
    answers: list[Replies[Any]] = [
        *result.before,
        *(checked for checked in (result.trained, result.evaluated) if checked is not None),
    ]

    def rows(of: Callable[[TrainReply], _Row | None]) -> list[_Row | None] | None:
        found = [of(replies[k]) if k in replies else None for k in range(num_clients)]
        return found if any(row is not None for row in found) else None

    real = rows(lambda reply: reply.real_counts)
    synthetic = rows(lambda reply: reply.synthetic_counts)
    phases = sorted({phase for reply in replies.values() for phase in reply.seconds})
    return RoundRecord.model_validate(
        {
            "round": result.number,
            "metrics": _global(result.metrics, _counts(result.metrics)),
            "tail": _global(result.tail) if result.tail else None,
            "labels": (
                _label_fits(real, synthetic, overall)
                if real and synthetic and overall is not None
                else None
            ),
            "personalized": _personalized(result.evaluated),
            "discrepancy": rows(lambda reply: reply.discrepancy),
            "quotas": rows(lambda reply: reply.held),
            "real_counts": real,
            "synthetic_counts": synthetic,
            "quality": _quality(rows),
            "lr": result.lr,
            "validation": None if result.validation is None else vars(result.validation),
            "seconds": PhaseSeconds(
                clients={
                    phase: [
                        replies[k].seconds.get(phase) if k in replies else None
                        for k in range(num_clients)
                    ]
                    for phase in phases
                },
                server=dict(result.server_seconds),
                wall=wall_seconds,
            ),
            "bytes": _traffic(answers, num_clients),
            "clients": {key: dict(reply.facts) for key, reply in replies.items()},
            "failures": [failure for checked in answers for failure in checked.failures],
        }
    )


def _quality(rows: Rows) -> dict[str, Any] | None:
    """Return what was measured of the synthetic images, each K x C; None if nothing was."""
    names = ("images", *MEASURES)
    found = {name: rows(partial(_measured, name)) for name in names}
    return found if found["images"] is not None else None


def _measured(name: str, reply: TrainReply) -> Any:
    return None if reply.quality is None else getattr(reply.quality, name)


def _traffic(answers: Sequence[Replies[Any]], num_clients: int) -> Traffic:
    down, up = (
        [
            sum(getattr(checked, name).get(k, 0) for checked in answers)
            for k in range(-1, num_clients)
        ]
        for name in ("bytes_down", "bytes_up")
    )
    if not answers:
        return Traffic()
    return Traffic(down=sum(down), up=sum(up), clients_down=down[1:], clients_up=up[1:])


def _counts(metrics: Metrics) -> list[list[int]] | None:
    """Return which class was taken for which, where the classes are few enough for every round."""
    if metrics.confusion is None or len(metrics.confusion) > MOST_CLASSES:
        return None
    counts: list[list[int]] = metrics.confusion.tolist()
    return counts


def _global(metrics: Metrics, confusion: list[list[int]] | None = None) -> GlobalMetrics:
    return GlobalMetrics(
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro_f1,
        loss=metrics.loss,
        per_class=metrics.per_class,
        precision=metrics.precision,
        f1=metrics.f1,
        confusion=confusion,
    )


def _label_fits(
    real: list[Counts | None], synthetic: list[Counts | None], overall: Counts
) -> LabelFits:
    fits = label_fits(real, synthetic, overall)
    return LabelFits.model_validate(
        {
            field.name: [None if fit is None else getattr(fit, field.name) for fit in fits]
            for field in dataclasses.fields(LabelFit)
        }
    )


def _personalized(evaluated: Replies[EvaluateReply] | None) -> Personalized | None:
    if evaluated is None:
        return None
    accuracies = {k: r.accuracy for k, r in evaluated.replies.items() if r.num_examples > 0}
    if not accuracies:
        return None
    return Personalized(mean=sum(accuracies.values()) / len(accuracies), per_client=accuracies)
