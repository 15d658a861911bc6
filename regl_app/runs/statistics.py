"""The numbers a run is judged by, and how sure several seeds make us of them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from regl_app.runs.kept import up_to_kept
from regl_app.runs.records import RoundRecord, RunResult

TARGET_ACCURACY = 0.9
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Summary:
    """One run in numbers; None where the run did not get that far or did not measure it.

    ``model_round`` is the round whose global model the run keeps (``regl_app.runs.kept``), of
    ``rounds``: accuracies, F1 and loss are that round's. ``best_accuracy`` is the highest test
    accuracy of any round, which nobody can choose by; ``mean_accuracy`` is the mean of all rounds,
    be they kept or not: how fast and how high at once, hardly moved by a last round that swings. Of
    a run that ended early they are fewer.
    ``synthetic_images``, ``js_before``, ``js_after`` and ``precision`` are of the round in which
    all clients together trained on the most synthetic images: their sum, means over clients.
    What measures the global model (accuracies, F1, loss, ``rounds_to_target``) is None where a part
    of it stays at the clients.
    """

    rounds: int
    accuracy: float | None
    best_accuracy: float | None
    macro_f1: float | None
    loss: float | None
    personalized: float | None
    personalized_worst: float | None
    own_models: float | None
    rounds_to_target: int | None
    seconds: float | None
    synthetic_images: int | None
    bytes_down: int
    bytes_up: int
    tail_accuracy: float | None = None
    js_before: float | None = None
    js_after: float | None = None
    precision: float | None = None
    model_round: int | None = None
    mean_accuracy: float | None = None


@dataclass(frozen=True)
class Interval:
    """A mean and half of its 95 % confidence interval (None for a single value)."""

    mean: float
    half: float | None
    count: int

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        """Return ``mean ± half`` times ``scale``, the mean alone of a single value."""
        mean = f"{self.mean * scale:.{digits}f}"
        return mean if self.half is None else f"{mean} ± {self.half * scale:.{digits}f}"


def summarize(
    history: Sequence[RoundRecord],
    result: RunResult | None = None,
    target: float = TARGET_ACCURACY,
    *,
    whole: bool = True,
) -> Summary:
    """Return the numbers of a run.

    Args:
        history: its rounds.
        result: how it ended, if it has.
        target: ``rounds_to_target`` is the first round at that accuracy.
        whole: whether its global model is a whole one (``regl_app.config.external.keeps_parts``).
    """
    trained = [record for record in history if record.round > 0]
    until = up_to_kept(history, result)
    kept = until[-1] if until else None
    # A model without its clients' own parts sees nothing.
    measured = history if whole else ()
    scored = kept.metrics if kept and whole else None
    personal = next((r.personalized for r in reversed(until) if r.personalized), None)
    own = [
        share
        for client, facts in (kept.clients if kept else {}).items()
        if (share := told_number(facts, "local_accuracy", 1)) is not None
        and (not personal or client in personal.per_client)
    ]
    if personal and len(own) == 1 < len(personal.per_client):
        own = []  # of one client, such as the one that has all data in ``central``, it is no mean
    fits = largest_supplement(trained)
    labels = fits.labels if fits is not None and supplement_size(fits) else None
    counted = any(record.synthetic_counts is not None for record in history)
    wall = sum(record.seconds.wall for record in history)
    return Summary(
        rounds=trained[-1].round if trained else 0,
        accuracy=scored.accuracy if scored else None,
        best_accuracy=max((r.metrics.accuracy for r in measured), default=None),
        macro_f1=scored.macro_f1 if scored else None,
        loss=scored.loss if scored else None,
        personalized=personal.mean if personal else None,
        personalized_worst=min(personal.per_client.values(), default=None) if personal else None,
        own_models=sum(own) / len(own) if own else None,
        rounds_to_target=next((r.round for r in measured if r.metrics.accuracy >= target), None),
        seconds=result.seconds if result else (wall or None),
        synthetic_images=supplement_size(fits) if fits is not None and counted else None,
        bytes_down=sum(record.bytes.down for record in history),
        bytes_up=sum(record.bytes.up for record in history),
        tail_accuracy=kept.tail.accuracy if kept and kept.tail and whole else None,
        js_before=_known_mean(labels.js_before) if labels else None,
        js_after=_known_mean(labels.js_after) if labels else None,
        precision=_known_mean(labels.precision) if labels else None,
        model_round=kept.round if kept else None,
        mean_accuracy=_known_mean([r.metrics.accuracy for r in measured if r.round > 0]),
    )


def told_number(facts: Mapping[str, object], name: str, most: float) -> float | None:
    """Return a number from 0 to ``most`` that a client told; None where it is none.

    In old folders a fact may be anything.
    """
    value = facts.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        return None
    return float(value)


def largest_supplement(history: Sequence[RoundRecord]) -> RoundRecord | None:
    """Return the first round in which all clients together trained on the most synthetic images."""
    return max(history, key=supplement_size, default=None)


def supplement_size(record: RoundRecord) -> int:
    """Return how many synthetic images the clients of a round trained on."""
    return sum(sum(row) for row in record.synthetic_counts or [] if row)


def _known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def latest_rows(history: Sequence[RoundRecord], name: str) -> list[list[float] | None]:
    """Return the K x C matrix ``name`` with each client's last known row (empty if never given)."""
    rows: list[list[float] | None] = []
    for record in history:
        matrix = getattr(record, name)
        if matrix is None:
            continue
        rows.extend([None] * (len(matrix) - len(rows)))
        for client, row in enumerate(matrix):
            if row is not None:
                rows[client] = row
    return rows


def largest_rows(history: Sequence[RoundRecord], name: str) -> list[list[float] | None]:
    """Return the K x C matrix ``name``, each client's row from the first round of its largest sum.

    A supplement that fades out over the rounds is shown by this row, not by its last one.
    """
    rows: list[list[float] | None] = []
    for record in history:
        matrix = getattr(record, name) or []
        rows.extend([None] * (len(matrix) - len(rows)))
        for client, row in enumerate(matrix):
            held = rows[client]
            if row is not None and (held is None or sum(row) > sum(held)):
                rows[client] = row
    return rows


def mean_interval(values: Sequence[float]) -> Interval:
    """Return mean and Student-t 95 % interval of ``values`` (at least one)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Interval(mean, None, count)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    # Only where it is needed: scipy takes a second to import. `stdtrit` inverts Student's t.
    from scipy.special import stdtrit

    quantile = float(stdtrit(count - 1, 0.975))
    return Interval(mean, quantile * deviation / math.sqrt(count), count)


def paired(own: Mapping[_Key, float], base: Mapping[_Key, float]) -> Interval | None:
    """Return ``own`` less ``base`` over the keys that both have; None where there is none."""
    pairs = [value - base[key] for key, value in own.items() if key in base]
    return mean_interval(pairs) if pairs else None
