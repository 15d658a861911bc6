"""The process that stays at a node between messages, as real processes."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from client_app import dispatch
from client_app.handlers import HANDLERS
from client_app.worker import client, server, wire_format
from client_app.worker.client import WorkerUnavailableError, _private_folder, ask_worker
from client_app.worker.wire_format import WorkerRequest, send_request
from regl_app.config import RunConfig, named_code
from regl_app.core.app_code import own_code_hash
from regl_app.core.errors import ConfigError, ProtocolError, ReglError, RunError
from regl_app.core.processes import descendants, end_processes, started_at
from regl_app.core.types import Scalar
from regl_app.flower.messages.content import ARRAYS, OURS, request_record
from regl_app.flower.messages.handshake import Handshake, config_digest
from regl_app.flower.messages.train import TrainRequest


@pytest.fixture(autouse=True)
def _short_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    tmp_path_factory.getbasetemp()  # made now, it is not in a folder that is removed
    # pytest's own folders are longer than a socket's path may be.
    folder = tempfile.mkdtemp(prefix="regl-")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield
    end_processes(descendants(os.getpid()))
    shutil.rmtree(folder)


@pytest.fixture
def owner() -> subprocess.Popen[bytes]:
    """Return a process that workers belong to."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def context(**changes: Scalar) -> Context:
    flat: dict[str, Scalar] = {
        "method": "fedavg",
        "train.steps": 2,
        "data.max-train": 120,
        "data.max-test": 60,
        "data.image-size": 16,
        "model.width": 4,
    }
    return Context(1, 7, {"partition-id": 1, "num-partitions": 2}, RecordDict(), flat | changes)


def hello(at: Context) -> RecordDict:
    handshake = Handshake(own_code_hash(), config_digest(RunConfig.from_flat(at.run_config)))
    return RecordDict({OURS: request_record(0, handshake)})


def endless(at: Context) -> RecordDict:
    """Return a request to train for hours."""
    from client_app.node import Node
    from regl_app.flower.messages.weights import weights_to_record

    handshake = Handshake(own_code_hash(), config_digest(RunConfig.from_flat(at.run_config)))
    arrays = weights_to_record(Node.of(at).template)
    request = TrainRequest(1).to_record(handshake)
    return RecordDict({OURS: request, ARRAYS: arrays})


def workers() -> dict[int, str]:
    """Return this process's workers, by their command line."""
    found = {}
    for pid, begun in descendants(os.getpid()).items():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except FileNotFoundError:
            continue
        if "client_app.worker.server" in command:
            found[pid] = begun
    return found


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listens(path: Path) -> bool:
    with client._connected(path) or nullcontext() as line:
        return line is not None


def test_one_worker_answers_message_after_message_as_this_process_would(
    owner: subprocess.Popen[bytes],
) -> None:
    at = context()
    answers, seen = [], []
    for _ in range(2):
        answers.append(ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=60))
        seen.append(workers())
    assert answers[0] == answers[1] == HANDLERS["query"](hello(at), at)
    assert seen[0] == seen[1] and len(seen[0]) == 1
    # Errors arrive as they were raised.
    other = context(seed=1)
    with pytest.raises(ProtocolError, match="config-digest must be"):
        ask_worker("query", hello(other), at, owner=owner.pid, idle_seconds=60)
    with pytest.raises(RunError, match="KeyError: 'dance'"):
        ask_worker("dance", hello(at), at, owner=owner.pid, idle_seconds=60)
    assert workers() == seen[0], "an error ended the worker"
    owner.kill()
    owner.wait()
    until(lambda: not workers())


def test_it_ends_when_nothing_comes(owner: subprocess.Popen[bytes]) -> None:
    at = context()
    ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=0.5)
    until(lambda: not workers())


def test_one_whose_owner_dies_while_it_starts_ends(
    owner: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        owner.kill()
        owner.wait()
        return subprocess.Popen(*arguments, **options)

    monkeypatch.setattr(client, "subprocess", SimpleNamespace(Popen=start, DEVNULL=-3))
    at = context()
    with pytest.raises(WorkerUnavailableError):
        ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=600)
    until(lambda: not workers())


def test_one_that_starts_ends_with_a_message_s_process_that_is_told_to(
    owner: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path) -> None:
        if workers():
            raise SystemExit

    monkeypatch.setattr(client, "_connected", stop)
    at = context()
    with pytest.raises(SystemExit):
        ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=600)
    assert not workers()


def test_one_that_ends_as_it_starts_is_told_as_such(
    owner: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = context()
    for how, told in (("exit 3", "exit status 3"), ("kill -9 $$", "killed by signal 9")):
        program = Path(tempfile.gettempdir()) / "python"
        program.write_text(f"#!/bin/sh\n{how}\n")
        program.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(program))
        with pytest.raises(WorkerUnavailableError, match=f"it ended as it started: {told}"):
            ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=60)


@pytest.mark.parametrize("unread", [b"", b"taken"])
def test_it_ends_whatever_its_asker_left_behind(
    unread: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    done = threading.Event()

    def end(status: int) -> None:
        ended.append(status)
        done.set()

    monkeypatch.setattr("os._exit", end)
    line, asker = socket.socketpair()
    line.sendall(unread)
    asker.close()  # with something unread the line is reset, not ended
    with line:
        server._end_without_sender(line, done)
    assert ended == [1]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_request_that_ends_beside_the_look_at_its_line_is_no_error(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os._exit", lambda status: pytest.fail("the worker ended"))
    line, asker = socket.socketpair()
    done = threading.Event()

    def look(*arguments: Any) -> Any:
        asker.close()
        found = select.select(*arguments) if when == "after" else None
        done.set()
        line.close()
        return found or select.select(*arguments)

    monkeypatch.setattr(server, "select", SimpleNamespace(select=look))
    server._end_without_sender(line, done)


def test_its_death_over_an_order_is_the_orders_error(
    owner: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = context(**{"train.steps": 10_000_000})
    begun = threading.Event()

    def receive_taken(line: socket.socket) -> bool:
        taken = wire_format.receive_taken(line)
        begun.set()
        return taken

    monkeypatch.setattr(client, "receive_taken", receive_taken)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(
            ask_worker, "train", endless(at), at, owner=owner.pid, idle_seconds=60
        )
        assert begun.wait(60)
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(RunError, match="died over this train request"):
            pending.result()


@pytest.mark.parametrize("hangs", [True, False], ids=["hung", "slow"])
def test_one_that_has_not_answered_when_the_message_ends_is_killed(
    owner: subprocess.Popen[bytes], hangs: bool
) -> None:
    at = context(**{"train.steps": 10_000_000})
    answer = ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=60)
    request = hello(at) if hangs else endless(at)
    found = workers()
    for pid in found if hangs else ():
        os.kill(pid, signal.SIGSTOP)
    began = time.time()
    with pytest.raises(RunError, match="no longer waited for it, and was ended"):
        ask_worker(
            "query" if hangs else "train", request, at,
            owner=owner.pid, idle_seconds=60, wanted_until=began + 5,
        )  # fmt: skip
    assert time.time() - began >= 5
    assert all(started_at(pid) != begun for pid, begun in found.items())
    # More seconds than a socket can count.
    later = time.time() + 1e8
    assert answer == ask_worker(
        "query", hello(at), at, owner=owner.pid, idle_seconds=1e8, wanted_until=later
    )


_ASKER = """
import socket, sys, tempfile
tempfile.tempdir = sys.argv[1]
sys.path.insert(0, sys.argv[2])
from client_app.worker import client, wire_format
request = wire_format.receive_request(socket.socket(fileno=int(sys.argv[3])))
def receive_taken(line):
    taken = wire_format.receive_taken(line)
    print("taken", flush=True)
    return taken
client.receive_taken = receive_taken
owner = int(sys.argv[4])
client.ask_worker(request.kind, request.content, request.context, owner=owner, idle_seconds=60)
"""


def test_one_whose_gpu_has_failed_for_good_answers_and_takes_no_more(
    monkeypatch: pytest.MonkeyPatch, owner: subprocess.Popen[bytes]
) -> None:
    """Every later request would fail too: CUDA tells a process of the same fault for ever."""
    at, lost = context(), [False]
    monkeypatch.setattr(server, "card_lost", lambda: lost[0])
    monkeypatch.setattr(server, "_end_with", lambda owner, begun: None)  # it would end these tests
    path = _private_folder() / f"{owner.pid}-{started_at(owner.pid)}.sock"
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(server.serve, path, owner.pid, str(started_at(owner.pid)), 60.0)
        until(lambda: listens(path))
        with pytest.raises(RunError, match="KeyError: 'dance'"):
            ask_worker("dance", hello(at), at, owner=owner.pid, idle_seconds=60)
        assert ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=60)
        assert not workers() and not serving.done(), "an error alone is no reason to end"
        lost[0] = True
        with pytest.raises(RunError, match="KeyError: 'dance'"):
            ask_worker("dance", hello(at), at, owner=owner.pid, idle_seconds=60)
        assert not path.exists()
        serving.result(timeout=60)
    assert ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=60)
    assert len(workers()) == 1


def test_it_ends_when_whoever_asked_is_gone(owner: subprocess.Popen[bytes]) -> None:
    at = context(**{"train.steps": 10_000_000})
    ours, its = socket.socketpair()
    with ours, its:
        arguments = (tempfile.gettempdir(), Path(__file__).parents[3], its.fileno(), owner.pid)
        command = [sys.executable, "-c", _ASKER, *map(str, arguments)]
        asker = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[its.fileno()])
        send_request(ours, WorkerRequest("train", "", endless(at), at))
    assert asker.stdout is not None and asker.stdout.readline() == b"taken\n"
    found = workers()
    assert len(found) == 1
    asker.kill()
    asker.wait()
    asker.stdout.close()
    until(lambda: all(started_at(pid) != begun for pid, begun in found.items()))


def test_other_code_is_not_served_by_an_old_worker(
    owner: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = context()
    ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=60)
    old = workers()
    monkeypatch.setattr("client_app.worker.client.named_code_hash", lambda *_: "other")
    monkeypatch.setattr("client_app.worker.client._TRIES", 2)
    # The new one has this code as well, not the other: it does not pass for it either.
    with pytest.raises(WorkerUnavailableError, match="other code"):
        ask_worker("query", hello(at), at, owner=owner.pid, idle_seconds=60)
    until(lambda: not set(old) & set(workers()))


def test_a_model_s_code_that_has_changed_is_not_served_by_an_old_worker(
    owner: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = context()
    at.run_config["model.name"] = "nets_of_a_site:Net"
    file = tmp_path / "nets_of_a_site.py"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for version in range(2):
        file.write_text(f"class Net: ...  # version {version}\n")
        named_code._seen.clear()  # as a new process for each message has it
        with pytest.raises(ReglError):  # it is no model, which the worker finds
            ask_worker("query", hello(context()), at, owner=owner.pid, idle_seconds=60)
        until(lambda: len(workers()) == 1)
        seen.append(workers())
    assert not set(seen[0]) & set(seen[1])


def test_one_that_ends_as_it_is_asked_has_not_begun(owner: subprocess.Popen[bytes]) -> None:
    folder = Path(tempfile.gettempdir()) / f"regl-{os.getuid()}"
    folder.mkdir(mode=0o700)
    path = folder / f"{owner.pid}-{started_at(owner.pid)}.sock"
    at = context()
    with ThreadPoolExecutor(1) as pool, socket.socket(socket.AF_UNIX) as ending:
        ending.bind(str(path))
        ending.listen()
        pending = pool.submit(ask_worker, "query", hello(at), at, owner=owner.pid, idle_seconds=60)
        ending.accept()[0].close()  # with the request unread: the sender's connection is reset
        path.unlink()
        ending.close()
        assert pending.result() == HANDLERS["query"](hello(at), at)
    assert len(workers()) == 1


def test_a_folder_that_others_can_enter_is_not_used(owner: subprocess.Popen[bytes]) -> None:
    folder = Path(tempfile.gettempdir()) / f"regl-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(WorkerUnavailableError, match="this user alone"):
        ask_worker("query", hello(context()), context(), owner=owner.pid, idle_seconds=60)


def test_only_flowers_process_per_message_asks_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    at = context()
    assert dispatch.perform("query", hello(at), at) == HANDLERS["query"](hello(at), at)
    assert not workers()
    monkeypatch.setattr("sys.argv", ["flwr-clientapp"])
    assert dispatch.perform("query", hello(at), at) == HANDLERS["query"](hello(at), at)
    assert len(workers()) == 1
    end_processes(workers())
    at.node_config["warm-minutes"] = 0
    dispatch.perform("query", hello(at), at)
    assert not workers()
    at.node_config["warm-minutes"] = "soon"
    with pytest.raises(ConfigError, match="warm-minutes must be a whole number"):
        dispatch.perform("query", hello(at), at)
