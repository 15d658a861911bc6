"""What of an error leaves a node: whose it is and one line."""

from __future__ import annotations

import time

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client_app import handlers
from client_app.dispatch import perform
from client_app.main import app
from client_app.worker import client
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


@pytest.mark.parametrize("kind", ["query", "train", "train.adapter", "evaluate"])
def test_the_worker_is_told_until_when_the_message_lives(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    told: list[float] = []

    def ask(*_: object, wanted_until: float, **__: object) -> RecordDict:
        told.append(wanted_until)
        return RecordDict()

    monkeypatch.setattr(client, "ask_worker", ask)
    monkeypatch.setattr("sys.argv", ["flwr-clientapp"])
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 0, 1
    message = Message(RecordDict(), 7, kind, ttl=300.0)
    message.metadata.__dict__["_message_id"] = "1"
    app(message, Context(1, 7, {"partition-id": 0}, RecordDict(), {}))
    assert told == [pytest.approx(time.time() + 300, abs=60)]
