"""What the server shows of an error that a node sent."""

from __future__ import annotations

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from server_app.replies import check_replies

RAY = """<class 'flwr.clientapp.client_app.ClientAppException'>:<'
Exception ClientAppException occurred. Message: ray::ClientAppActor.run() (pid=1, ip=127.0.0.1)
  File "client_app/dispatch.py", line 36, in perform
regl_app.core.errors.DataError: client 0: /srv/a.png: not a readable image'>"""


@pytest.fixture(autouse=True)
def _identity() -> None:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 0, 1


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("clinic-a: /srv/a.png: no", "clinic-a: /srv/a.png: no"),
        ("<class 'regl_app.core.errors.DataError'>:<'clinic-a: it's no'>", "clinic-a: it's no"),
        ("<class 'KeyError'>:<''x''>", "KeyError: 'x'"),
        (RAY, "regl_app.core.errors.DataError: client 0: /srv/a.png: not a readable image"),
        ("", "no reason given"),
        ("<class 'MemoryError'>:<''>", "MemoryError"),
    ],
)
def test_it_is_one_line_without_what_flower_puts_around_it(reason: str, shown: str) -> None:
    request = Message(RecordDict(), 7, "train")
    request.metadata.__dict__["_message_id"] = "1"
    reply = Message(Error(2, reason), reply_to=request)
    checked = check_replies([request], [reply], lambda _: None, {}, "train", 9)  # type: ignore[arg-type,return-value]
    assert checked.failures == (f"train: node 7: failed: {shown}",)
