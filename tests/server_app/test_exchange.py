"""A link that goes away: who is asked again, and who is not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from regl_app.config.server_section import ServerConfig
from server_app import exchange as module
from server_app import nodes
from server_app.exchange import exchange

SERVER = ServerConfig(min_nodes=2, timeout=60.0)


class FakeGrid:
    """Answers each exchange as it is told to, and knows some nodes at each look."""

    def __init__(self, outcomes: Sequence[Sequence[int | None]], connected: Sequence[int]) -> None:
        self.outcomes, self.connected = list(outcomes), list(connected)
        self.asked: list[list[str]] = []

    def get_node_ids(self) -> Iterable[int]:
        count = self.connected.pop(0) if len(self.connected) > 1 else self.connected[0]
        return range(1, count + 1)

    def send_and_receive(self, requests: Iterable[Message], timeout: float) -> list[Message]:
        requests = list(requests)
        for number, request in enumerate(requests):
            request.metadata.__dict__["_message_id"] = f"{len(self.asked)}-{number}"
        self.asked.append([request.metadata.message_id for request in requests])
        replies = []
        for request, code in zip(requests, self.outcomes.pop(0), strict=True):
            if code is None:
                replies.append(Message(request.content, reply_to=request))
            elif code >= 0:
                replies.append(Message(Error(code, "away"), reply_to=request))
        return replies


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 0, 1
    monkeypatch.setattr(nodes, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.05)


AWAY, FAILED, LATE = ErrorCode.NODE_UNAVAILABLE, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, -1
TORN = ErrorCode.MESSAGE_UNAVAILABLE


def ask(grid: Any, server: ServerConfig = SERVER) -> tuple[list[Message], list[Message]]:
    requests = [Message(RecordDict(), node, "train", group_id="7") for node in (1, 2, 3)]
    return requests, exchange(grid, requests, server)


def test_nodes_that_were_all_given_up_are_asked_again_once_they_are_back() -> None:
    grid = FakeGrid([[AWAY] * 3, [AWAY] * 3, [None] * 3], [0, 0, 1, 2, 3])
    requests, replies = ask(grid)
    assert not any(reply.has_error() for reply in replies) and len(grid.asked) == 3
    # The replies are to what the caller's list now holds, and that is the same question.
    ids = [reply.metadata.reply_to_message_id for reply in replies]
    assert ids == [request.metadata.message_id for request in requests] == grid.asked[-1]
    assert [request.metadata.dst_node_id for request in requests] == [1, 2, 3]
    assert {request.metadata.group_id for request in requests} == {"7"}


def test_one_that_stays_away_is_not_waited_for_longer_than_a_while() -> None:
    grid = FakeGrid([[AWAY] * 3, [None, None]], [0, 2, 2, 2])
    _, replies = ask(grid)
    assert sorted(reply.has_error() for reply in replies) == [False, False, True]


@pytest.mark.parametrize(
    "outcome", [[None, AWAY, AWAY], [None, AWAY, FAILED], [AWAY, AWAY, LATE], [FAILED] * 3]
)
def test_where_enough_answered_or_none_was_given_up_nobody_is_asked_again(
    outcome: list[int | None],
) -> None:
    grid = FakeGrid([outcome], [3])
    ask(grid)
    assert len(grid.asked) == 1


def test_nodes_that_do_not_come_back_in_time_are_what_they_were() -> None:
    grid = FakeGrid([[AWAY] * 3], [1])
    _, replies = ask(grid, ServerConfig(min_nodes=2, timeout=0.2))
    assert all(reply.has_error() for reply in replies) and len(grid.asked) == 1


@pytest.mark.parametrize("timeout", [60.0, 100_000.0, 1e300])
def test_a_request_ends_soon_after_nobody_waits_for_it_any_more(timeout: float) -> None:
    """Flower's own end is after twelve hours, whatever the run waits."""
    grid, began = FakeGrid([[AWAY] * 3, [None] * 3], [3]), time.time()
    requests = [Message(RecordDict(), node, "train") for node in (1, 2, 3)]
    for request in requests:
        request.metadata.created_at -= 500.0  # they are made one by one, with a payload each
    first = list(requests)
    replies = exchange(grid, requests, ServerConfig(min_nodes=2, timeout=timeout))  # type: ignore[arg-type]
    assert len(grid.asked) == 2
    until = began + min(timeout + module._MARGIN_SECONDS, module._LONGEST_SECONDS)
    for request in (*first, *requests):  # also what is asked again ends with the first deadline
        assert request.metadata.created_at + request.metadata.ttl == pytest.approx(until, abs=20)
    assert all(reply.metadata.ttl > module._MARGIN_SECONDS for reply in replies)


def errors(replies: list[Message]) -> dict[str, bool]:
    return {reply.metadata.reply_to_message_id: reply.has_error() for reply in replies}


def test_only_those_that_were_given_up_are_asked_again_where_a_round_needs_all() -> None:
    grid = FakeGrid([[AWAY, None, AWAY], [None, None]], [1, 2, 3])
    requests, replies = ask(grid, ServerConfig(min_nodes=3, min_replies=3, timeout=60.0))
    assert [len(ids) for ids in grid.asked] == [3, 2]
    ids = [request.metadata.message_id for request in requests]
    assert ids == ["1-0", "0-1", "1-1"]  # the one that had answered was not asked again
    assert errors(replies) == dict.fromkeys(ids, False)


def test_an_evaluation_does_not_wait_for_the_replies_that_a_training_needs() -> None:
    grid = FakeGrid([[AWAY, None, AWAY]], [3])
    requests = [Message(RecordDict(), node, "evaluate", group_id="7") for node in (1, 2, 3)]
    exchange(grid, requests, ServerConfig(min_nodes=3, min_replies=3, timeout=60.0))  # type: ignore[arg-type]
    assert len(grid.asked) == 1


def test_a_reply_that_was_lost_on_its_way_is_asked_for_once_more() -> None:
    grid = FakeGrid([[None, TORN, TORN], [None, TORN]], [3])
    requests, replies = ask(grid)
    assert [len(ids) for ids in grid.asked] == [3, 2]
    ids = [request.metadata.message_id for request in requests]
    assert ids == ["0-0", "1-0", "1-1"]
    assert errors(replies) == {"0-0": False, "1-0": False, "1-1": True}


def test_a_lost_reply_of_a_node_that_has_gone_is_not_waited_for() -> None:
    grid = FakeGrid([[None, None, TORN]], [2])
    ask(grid)
    assert len(grid.asked) == 1


def test_who_is_only_asked_who_he_is_is_not_waited_for_to_come_back() -> None:
    grid = FakeGrid([[None, FAILED, AWAY]], [2])
    kinds = ("train", "train", "query")
    requests = [Message(RecordDict(), node, kind) for node, kind in enumerate(kinds, 1)]
    exchange(grid, requests, ServerConfig(min_nodes=2, min_replies=2, timeout=60.0))  # type: ignore[arg-type]
    assert len(grid.asked) == 1


class Link(HttpGrid):
    """A link to a SuperLink, by which those of some kinds answer."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds, self.sent = kinds, dict[str, Message]()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = str(number)
            self.sent[str(number)] = message
        return list(self.sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        asked = [self.sent[key] for key in message_ids]
        return [
            Message(each.content, reply_to=each)
            for each in asked
            if each.metadata.message_type in self.kinds
        ]

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("answering", "asked", "count"),
    [
        (("train",), ("train", "query", "train"), 2),
        (("train", "query"), ("train", "query", "train"), 3),
        (("query",), ("query", "query"), 2),
    ],
)
def test_a_hung_node_that_is_only_asked_who_it_is_holds_no_round_up(
    answering: Sequence[str],
    asked: Sequence[str],
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BESIDE_SECONDS", 0.05)
    requests = [Message(RecordDict(), node, kind) for node, kind in enumerate(asked, 1)]
    began = time.monotonic()
    assert len(exchange(Link(answering), requests, SERVER)) == count
    assert time.monotonic() - began < SERVER.timeout / 2


def test_who_is_only_asked_who_he_is_counts_for_no_answer_that_a_round_needs() -> None:
    grid = FakeGrid([[AWAY, AWAY, None], [None, None]], [1, 2, 3])
    kinds = ("train", "train", "query")
    requests = [Message(RecordDict(), node, kind) for node, kind in enumerate(kinds, 1)]
    replies = exchange(grid, requests, SERVER)  # type: ignore[arg-type]
    assert [len(ids) for ids in grid.asked] == [3, 2]
    assert not any(reply.has_error() for reply in replies)
