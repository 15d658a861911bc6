"""What our SuperNode changes of Flower's; a Flower that renames it fails here."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, HEARTBEAT_PATIENCE, Status
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from regl_app.flower.deployment import supernode


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Return the time that the node's state goes by, to be moved."""
    clock = [now()]
    monkeypatch.setattr(in_memory_corestate, "now", lambda: clock[0])
    return clock


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> NodeState:
    """Return the state that ``regl-supernode`` gives Flower's SuperNode."""
    made: list[NodeState] = []

    def run() -> None:
        made.append(NodeStateFactory(ObjectStoreFactory()).state())
        raise SystemExit

    claim = in_memory_corestate.InMemoryCoreState.claim_task
    monkeypatch.setattr(in_memory_corestate.InMemoryCoreState, "claim_task", claim)
    monkeypatch.setattr(start_client_internal, "subprocess", subprocess)
    for name in ("_pull_and_store_message", "_push_messages"):
        monkeypatch.setattr(start_client_internal, name, getattr(start_client_internal, name))
    monkeypatch.setattr(supernode, "flower_supernode", run)
    with pytest.raises(SystemExit):
        supernode.main()
    return made[0]


def status(state: NodeState, task_id: int, token: str) -> str:
    state.get_task_by_token(token)  # looks first at who is silent for too long
    (task,) = state.get_tasks(task_ids=[task_id])
    return str(task.status.status)


def test_a_process_that_starts_slowly_gets_no_other_beside_it(
    state: NodeState, clock: list[datetime]
) -> None:
    task_id = state.create_task(TaskType.CLIENT_APP, 1, fab_hash="f")
    assert task_id is not None and (token := state.claim_task(task_id))
    clock[0] += timedelta(seconds=HEARTBEAT_DEFAULT_INTERVAL * 9)
    assert status(state, task_id, token) == Status.STARTING
    assert state.claim_task(task_id) is None
    # One that never came is replaced after all.
    clock[0] += timedelta(seconds=supernode.START_SECONDS)
    assert status(state, task_id, token) == Status.PENDING
    assert state.claim_task(task_id)


def test_one_that_runs_is_given_up_as_soon_as_by_flower(
    state: NodeState, clock: list[datetime]
) -> None:
    task_id = state.create_task(TaskType.CLIENT_APP, 1, fab_hash="f")
    assert task_id is not None and (token := state.claim_task(task_id))
    assert state.activate_task(task_id)
    clock[0] += timedelta(seconds=HEARTBEAT_PATIENCE * HEARTBEAT_DEFAULT_INTERVAL + 1)
    assert status(state, task_id, token) == Status.FINISHED


def received(state: NodeState, run_id: int, confirm: Callable[[Message], None]) -> int | None:
    """Have the node receive a message of a run; return what Flower's loop goes by."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = run_id, 0, 1
    message = Message(RecordDict(), dst_node_id=1, message_type="query")
    message.metadata.__dict__["_message_id"] = message.object_id
    objects = get_all_nested_objects(message)
    state.store_run(Run.create_empty(run_id))
    return start_client_internal._pull_and_store_message(
        state=state,
        object_store=state.object_store,
        node_config={},
        receive=lambda: (message, get_object_tree(message)),
        get_run=Run.create_empty,
        get_fab=lambda *_: pytest.fail("the run is known"),
        pull_object=lambda _run, name: objects[name].deflate(),
        confirm_message_received=lambda *_: confirm(message),
        trusted_entities=None,
    )


def reply(state: NodeState, message: Message) -> None:
    """Reply as a message's process does."""
    answer = Message(RecordDict(), reply_to=message)
    start_client_internal._insert_message(answer, state, state.object_store)


def test_a_reply_to_a_run_that_has_ended_is_not_sent_for_the_next_one_s(state: NodeState) -> None:
    ended: list[Message] = []
    at_work: list[str] = []

    def end(message: Message) -> None:
        (task,) = state.get_tasks(run_ids=[1])
        at_work.append(state.claim_task(task.task_id) or "")
        reply(state, message)
        ended.append(message)
        raise RunNotRunningException

    assert received(state, 1, end) is None
    assert state.get_task_by_token(at_work[0]) is None  # it is told to end as it asks again
    assert not state.get_messages_legacy(is_reply=True)
    assert len(state.object_store) == 0

    asked: list[Message] = []
    assert received(state, 2, asked.append) == 2
    reply(state, ended[0])  # it was sent at the same moment
    late = threading.Timer(0.2, lambda: reply(state, asked[0]))
    late.start()
    sent: list[int] = []

    def send(message: Message, *_: object) -> tuple[set[str], str]:
        sent.append(message.metadata.run_id)
        return set(), ""

    start_client_internal._push_messages(
        state=state, object_store=state.object_store, send=send, push_object=lambda *_: None
    )
    late.join()
    assert sent == [1, 2]
    assert not state.get_messages_legacy()
