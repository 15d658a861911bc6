"""The numbers of a round by the names that trackers show them under."""

from __future__ import annotations

from collections.abc import Sequence

from regl_app.runs.records import RoundRecord
from regl_app.runs.round_numbers import round_numbers

_OF_A_MODEL = {
    *("accuracy", "macro_f1", "loss", "tail_accuracy", "personalized_accuracy"),
    *("validation_accuracy", "validation_loss"),
}


def round_scalars(record: RoundRecord, names: Sequence[str] = ()) -> dict[str, float]:
    """Return what one round measured; what is unknown is left out. ``names`` are the classes'."""
    return {
        each.tag: float(each.value)
        for each in round_numbers(record, names)
        if each.tag and each.value is not None
    }


def kept_scalars(record: RoundRecord) -> dict[str, float]:
    """Return the scores of the model that a run keeps, that of ``record``'s round, as its own."""
    scores = {
        f"kept/{each.column}": float(each.value)
        for each in round_numbers(record)
        if each.column in _OF_A_MODEL and each.value is not None
    }
    return {"kept/round": float(record.round)} | scores
