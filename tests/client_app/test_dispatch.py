"""What of an error leaves a node: whose it is and one line."""

from __future__ import annotations

import pytest
from flwr.app import Context, RecordDict

from client_app import handlers
from client_app.dispatch import perform
from regl_app.core.errors import DataError, ReglError, RunError


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (DataError("a.png: no; repair it\nb.png: no\n27 more"), DataError, "a.png: no; repair it"),
        (DataError("wrong:\n  rounds=0\n  seed=x"), DataError, "wrong: rounds=0"),
        (RuntimeError("CUDA error\nCompile with X"), RunError, "RuntimeError: CUDA error"),
        (MemoryError(), RunError, "MemoryError"),
    ],
)
def test_it_is_the_first_line_and_names_the_node(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[ReglError], told: str
) -> None:
    def fails(content: RecordDict, context: Context) -> RecordDict:
        raise error

    monkeypatch.setattr(handlers, "HANDLERS", {"query": fails})
    context = Context(1, 7, {"partition-id": 0, "name": "clinic-a"}, RecordDict(), {})
    with pytest.raises(kind) as caught:
        perform("query", RecordDict(), context)
    assert str(caught.value) == f"clinic-a: {told}"
    assert caught.value.__cause__ is error
