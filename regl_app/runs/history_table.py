"""A run's history as a flat table, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from regl_app.runs.records import RoundRecord
from regl_app.runs.round_numbers import round_numbers


def history_csv(history: Sequence[RoundRecord], class_names: Sequence[str]) -> str:
    """Return one line per round and a head; what a round has not is empty.

    Shares are between 0 and 1, times in seconds; means are over the clients that replied.
    """
    rows = [
        {each.column: each.value for each in round_numbers(record, class_names) if each.column}
        for record in history
    ]
    head = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
