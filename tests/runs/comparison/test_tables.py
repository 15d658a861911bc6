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


def made(method: str, whole: bool, clients: float | None) -> Outcome:
    metrics = GlobalMetrics(accuracy=0.4, macro_f1=0.4)
    history = [RoundRecord(round=number, metrics=metrics) for number in (1, 2)]
    summary = summarize(history, RunResult(status="finished", seconds=1.0), whole=whole)
    return Outcome(method, 0, "", "", replace(summary, personalized=clients))


def test_what_has_no_whole_global_model_is_compared_at_the_clients() -> None:
    outcomes = (made("fedavg", True, 0.5), made("fedrep", False, 0.75))
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


def test_of_nothing_but_such_methods_no_table_is_empty() -> None:
    outcomes = (made("fedrep", False, 0.5), made("late", False, 0.75))
    found = Comparison(("fedrep", "late"), (0, 1), 2, outcomes, ())
    told = found.to_markdown()
    assert "Differences of final accuracy at the clients, row minus column" in told
    assert "| late | 25.0 |" in told and "| late | - |" not in told
    assert "global accuracy" not in told and "Likewise" not in told
    assert [title for title, _ in found.gaps()] == ["Accuracy at the clients, row minus column"]
    both = replace(found, methods=("late", "fedavg"), outcomes=(*outcomes, made("fedavg", True, 0)))
    assert [title.split(",")[0] for title, _ in both.gaps()] == [
        "Global accuracy",
        "Accuracy at the clients",
    ]
