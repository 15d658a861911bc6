"""What our SuperNode changes of Flower's; a Flower that renames it fails here."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta

import pytest
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, HEARTBEAT_PATIENCE, Status
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.date import now
from flwr.supercore.object_store import ObjectStoreFactory
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
