"""What the server shows of an error that a node sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from server_app.replies import Replies, check_replies

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


@dataclass(frozen=True)
class Claim:
    partition_id: int


def _claims(
    claims: Mapping[int, int], partitions: dict[int, int], connected: set[int]
) -> Replies[Claim]:
    """Let nodes say which client they are, by node id."""
    requests, replies = [], []
    for node, client in claims.items():
        request = Message(RecordDict(), node, "train")
        request.metadata.__dict__["_message_id"] = str(node)
        requests.append(request)
        content = RecordDict({"claim": MetricRecord({"client": client})})
        replies.append(Message(content, reply_to=request))
    return check_replies(
        requests,
        replies,
        lambda content: Claim(int(content.metric_records["claim"]["client"])),  # type: ignore[arg-type]
        partitions,
        "train",
        999,
        connected=lambda: connected,
    )


def test_a_new_node_is_a_client_only_once_the_one_that_was_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    partitions = {7: 0, 9: 1}
    checked = _claims({3: 0, 9: 1}, partitions, {3, 7, 9})
    assert partitions == {7: 0, 9: 1} and set(checked.replies) == {1}
    told = "train: node 3: refused: two nodes claim to be client 0 (that is node 7)"
    assert checked.failures == (told,)
    checked = _claims({3: 0, 9: 1}, partitions, {3, 9})
    assert partitions == {3: 0, 9: 1} and set(checked.replies) == {0, 1} and not checked.failures
    assert "client 0 is now node 3: node 7, which was, is not connected" in caplog.text
    checked = _claims({3: 0, 7: 0}, partitions, {3, 7})  # it comes back
    assert partitions == {3: 0, 9: 1} and checked.messages[0].metadata.src_node_id == 3
    assert len(checked.failures) == 1 and checked.failures[0].startswith("train: node 7: refused")


def test_two_new_nodes_that_claim_one_client_are_told_apart_by_their_numbers() -> None:
    partitions: dict[int, int] = {}
    checked = _claims({8: 0, 5: 0}, partitions, {5, 8})
    assert partitions == {5: 0}
    assert checked.failures == ("train: node 8: refused: two nodes claim to be client 0",)
