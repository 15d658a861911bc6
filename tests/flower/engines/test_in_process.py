"""The in-process engine: threads, timeouts, copies, and the same result however many workers."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity
from PIL import Image

from regl_app.config import RunConfig
from regl_app.core.devices import resolve_device
from regl_app.core.errors import RunError
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import InProcessGrid, run_in_process
from regl_app.generator.kept_foundations import Wanted, borrow, free_idle, give_back
from regl_app.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def _identity() -> None:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 0, 1


def _requests(grid: InProcessGrid) -> list[Message]:
    content = RecordDict({"c": ConfigRecord({"n": 1})})
    return [Message(content, node, MessageType.QUERY) for node in grid.get_node_ids()]


def _echo_app(released: threading.Event | None = None) -> ClientApp:
    """Return an app whose client 1 fails, and whose client 2 waits until it is released."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        partition_id = int(context.node_config["partition-id"])
        if partition_id == 1:
            raise RuntimeError("broken")
        if partition_id == 2 and released is not None:
            released.wait(60)
        message.content.config_records["c"]["n"] = 100 + partition_id
        calls = context.state.config_records.setdefault("calls", ConfigRecord({"n": 0}))
        calls["n"] = int(str(calls["n"])) + 1
        return Message(RecordDict({"r": ConfigRecord(dict(calls))}), reply_to=message)

    return app


def test_replies_errors_and_timeouts_reach_the_server() -> None:
    released = threading.Event()
    grid = InProcessGrid(_echo_app(released), 3, {}, workers=3)
    requests = _requests(grid)
    replies = list(grid.send_and_receive(requests, timeout=3.0))
    released.set()
    grid.close()
    by_request = {reply.metadata.reply_to_message_id: reply for reply in replies}
    answer, error = (by_request[requests[index].metadata.message_id] for index in (0, 1))
    assert answer.content.config_records["r"]["n"] == 1
    assert error.error.reason == "broken"
    assert requests[2].metadata.message_id not in by_request


def test_clients_get_copies_and_keep_their_state() -> None:
    grid = InProcessGrid(_echo_app(), 1, {}, workers=1)
    requests = _requests(grid)
    grid.send_and_receive(requests)
    assert requests[0].content.config_records["c"]["n"] == 1
    (second,) = grid.send_and_receive(_requests(grid))
    grid.close()
    assert second.content.config_records["r"]["n"] == 2


def test_every_worker_is_prepared_once_and_alone() -> None:
    seen: list[str] = []
    busy = threading.Lock()

    def prepare() -> None:
        assert busy.acquire(blocking=False)
        seen.append(threading.current_thread().name)
        time.sleep(0.02)
        busy.release()

    InProcessGrid(_echo_app(), 3, {}, workers=3, prepare=prepare).close()
    assert len(set(seen)) == len(seen) == 3


def test_workers_are_spread_over_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 2)
    loaded: list[tuple[str, str]] = []
    everyone = threading.Barrier(4)
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        where = str(resolve_device("auto"))
        assert (threading.current_thread().name, where) in loaded  # where its generator is
        everyone.wait(60)  # else two threads might serve all, where the others are slow
        return Message(RecordDict({"r": ConfigRecord({"where": where})}), reply_to=message)

    def prepare() -> None:
        device = resolve_device("cuda")
        loaded.append((threading.current_thread().name, str(device)))

    grid = InProcessGrid(app, 12, {}, workers=4, prepare=prepare, cards=range(2))
    replies = list(grid.send_and_receive(_requests(grid)))
    grid.close()
    assert sorted(where for _, where in loaded) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert {str(r.content.config_records["r"]["where"]) for r in replies} == {"cuda:0", "cuda:1"}
    assert str(resolve_device("auto")) == "cuda"  # of the server, nobody said so


def test_server_and_clients_take_turns_with_one_generator_also_after_a_failure() -> None:
    loaded: list[Any] = []

    def load() -> Any:
        loaded.append(SimpleNamespace(at_rest=True))
        return loaded[-1]

    def work() -> None:
        borrow(Wanted(("a checkpoint",), "cpu"), load)

    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        work()
        if context.node_config["partition-id"] == 1:
            raise RuntimeError("broken")
        return Message(RecordDict(), reply_to=message)

    work()
    for _ in range(2):
        give_back()
        grid = InProcessGrid(app, 3, {}, workers=1, prepare=work)
        work()
        replies = list(grid.send_and_receive(_requests(grid)))
        work()
        grid.close()
        assert sorted(reply.has_error() for reply in replies) == [False, False, True]
    give_back()
    free_idle()
    assert len(loaded) == 1


def test_a_failing_preparation_is_raised() -> None:
    def prepare() -> None:
        raise RunError("no generator")

    with pytest.raises(RunError, match="no generator"):
        InProcessGrid(_echo_app(), 2, {}, workers=2, prepare=prepare)


def _history(tmp_path: Path, name: str, workers: int, **changes: Scalar) -> list[object]:
    flat: dict[str, Scalar] = {
        "method": "fedavg",
        "rounds": 2,
        "train.steps": 3,
        "model.width": 4,
        "data.max-train": 200,
        "data.image-size": 16,
        "tensorboard": False,
        "report": False,
        "out-dir": str(tmp_path),
        "cache-dir": str(tmp_path / "cache"),
        "name": name,
    }
    config = RunConfig.from_flat(flat | changes)
    folder = RunFolder.open(run_in_process(config, clients=3, workers=workers))
    return [
        record.model_dump(include={"round", "metrics", "personalized", "real_counts", "failures"})
        for record in folder.read_history()
    ]


def test_the_same_seed_gives_the_same_history_with_any_number_of_workers(tmp_path: Path) -> None:
    first = _history(tmp_path, "one", 1)
    assert first == _history(tmp_path, "two", 3)
    assert first != _history(tmp_path, "other", 1, seed=1)


def test_a_folder_of_a_run_says_where_its_images_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(8):
        for name in ("a", "b"):
            path = tmp_path / "photos" / name / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), 30 * place).save(path)
    monkeypatch.chdir(tmp_path)
    _history(tmp_path, "one", 1, **{"data.source": "folder", "data.path": "photos", "rounds": 1})
    read = RunFolder.open(tmp_path / "one").read_config()
    assert read.data.path == str(tmp_path / "photos")


def test_a_sampled_federation_is_reproducible(tmp_path: Path) -> None:
    first = _history(tmp_path, "one", 1, **{"server.fraction": 0.5})
    assert first == _history(tmp_path, "two", 2, **{"server.fraction": 0.5})
    trained = [[row is not None for row in record["real_counts"]] for record in first[1:]]  # type: ignore[index]
    assert [sum(row) for row in trained] == [2, 2]
