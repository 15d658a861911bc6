"""A comparison's tables are tables, whatever its rows are called."""

from __future__ import annotations

from dataclasses import replace

from regl_app.runs.comparison.outcome import Outcome
from regl_app.runs.comparison.tables import Comparison, markdown_table
from regl_app.runs.records import GlobalMetrics, RoundRecord, RunResult
from regl_app.runs.statistics import summarize


def test_no_name_is_a_column_or_a_line_of_its_own() -> None:
    table = markdown_table(["method", "a|b"], [["regl | small\nlate", "1"]])
    assert table.splitlines() == [
        "| method | a\\|b |",
        "| --- | ---: |",
        "| regl \\| small late | 1 |",
    ]


def test_what_has_no_whole_global_model_is_compared_at_the_clients() -> None:
    metrics = GlobalMetrics(accuracy=0.4, macro_f1=0.4)
    history = [RoundRecord(round=number, metrics=metrics) for number in (1, 2)]
    summary = summarize(history, RunResult(status="finished", seconds=1.0))
    outcomes = (
        Outcome("fedavg", 0, "", "", replace(summary, personalized=0.5)),
        Outcome("fedrep", 0, "", "", replace(summary, personalized=0.75), whole=False),
    )
    found = Comparison(("fedavg", "fedrep"), (0,), 2, outcomes, ())
    head, rows = found.table()
    cells = dict(zip(head, rows[1], strict=True))
    assert [cells[name] for name in ("global accuracy %", "mean of all rounds %")] == ["-", "-"]
    assert (cells["global model at clients %"], cells["rounds to 90%"]) == ("75.0", "-")
    assert found.differences()[1] == [["fedrep", "-"]]
    assert found.differences("personalized")[1] == [["fedrep", "25.0"]]
    assert "Likewise of accuracy at the clients" in found.to_markdown()
    alone = Comparison(("fedavg",), (0,), 2, outcomes[:1], ())
    assert "at the clients" not in alone.to_markdown()
