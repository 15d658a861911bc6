"""A comparison's tables are tables, whatever its rows are called."""

from __future__ import annotations

from regl_app.runs.comparison.tables import markdown_table


def test_no_name_is_a_column_or_a_line_of_its_own() -> None:
    table = markdown_table(["method", "a|b"], [["regl | small\nlate", "1"]])
    assert table.splitlines() == [
        "| method | a\\|b |",
        "| --- | ---: |",
        "| regl \\| small late | 1 |",
    ]
