"""One adapter for all, through Flower: who cannot tune it is left out by name and still gets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, Context, Message
from flwr.clientapp import ClientApp

from client_app.main import app as honest_app
from regl_app.core.errors import ConfigError, GeneratorError, RunError
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import InProcessGrid
from regl_app.generator.adaptation.cache import AdapterCache
from regl_app.generator.adaptation.shared import SharedAdapter
from regl_app.runs.folder import RunFolder
from regl_app.supplement.adapter_tuning import AdapterTuning
from regl_app.supplement.client_generator import ClientGenerator

MakeClient = Callable[..., ClientApp]
Federate = Callable[..., RunFolder]
KIND = "train.adapter"


@pytest.fixture
def run(federate: Federate, quick_generator: dict[str, Scalar]) -> Federate:
    """Return what runs two rounds of three clients that share an adapter."""

    def start(client_app: ClientApp | None = None, **changes: object) -> RunFolder:
        defaults: dict[str, object] = {
            "method": "regl-shared",
            **quick_generator,
            "generator__steps": 1,
            "lora__rounds": 1,
            "lora__steps": 1,
            "lora__rank": 1,
            "lora__batch_size": 2,
            "lora__min_images": 1,
            "supplement__cap": 2,
            "probe__per_class": 1,
        }
        return federate(client_app, clients=3, **(defaults | changes))

    return start


def _of_client_one(fault: Callable[[Message], None]) -> Callable[[Message, int], Message]:
    def misbehave(reply: Message, partition_id: int) -> Message:
        if partition_id == 1:
            fault(reply)
        return reply

    return misbehave


def _infinite(reply: Message) -> None:
    record = reply.content.array_records["adapter"]
    key = next(iter(record))
    record[key] = Array(np.full_like(record[key].numpy(), np.inf))


def _foreign(reply: Message) -> None:
    record = reply.content.array_records["adapter"]
    key = next(iter(record))
    record[key] = Array(np.zeros((3, 3), np.float32))


def _raises(_reply: Message) -> None:
    raise ValueError("out of memory")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (_infinite, "must be finite, got NaN or infinity"),
        (_foreign, "must be float32"),
        (_raises, "failed: out of memory"),
    ],
)
def test_a_bad_part_is_left_out_and_its_client_gets_the_others_adapter(
    run: Federate, make_client: MakeClient, fault: Callable[[Message], None], why: str
) -> None:
    history = run(make_client(_of_client_one(fault), KIND)).read_history()
    (failure,) = history[1].failures
    assert failure.startswith("adapter: client 1: ")
    assert why in failure
    assert set(history[1].clients) == {0, 1, 2}
    assert all(facts["adapted"] for facts in history[1].clients.values())
    assert [facts["adapter_steps"] for facts in history[1].clients.values()] == [1, 0, 1]
    assert history[2].failures == []


def test_its_bytes_and_seconds_count_to_the_first_round(run: Federate) -> None:
    folder = run(lora__rounds=2, report=True)
    plain = run(method="regl-free")
    (_, first, second), (_, usual, _) = folder.read_history(), plain.read_history()
    assert first.bytes.up > second.bytes.up > usual.bytes.up - 2000
    assert all(each > 0 for each in first.seconds.clients["adapt"])  # type: ignore[operator]
    assert 0 < first.seconds.server["wait_tune"] < first.seconds.wall
    assert "wait_tune" not in second.seconds.server
    assert folder.report.is_file()
    assert "averaged over clients in 2 rounds" in folder.report.read_text(encoding="utf-8")


def test_a_client_that_comes_later_gets_it_then(run: Federate, make_client: MakeClient) -> None:
    carried: dict[int, list[bool]] = {}
    gone = True

    def serve(message: Message, context: Context) -> Message:
        nonlocal gone
        partition = int(context.node_config["partition-id"])
        kind = message.metadata.message_type
        if kind == "evaluate":
            gone = False
        if partition == 2 and gone and kind != "query":
            raise ValueError("not there")
        if kind == "train":
            carried.setdefault(partition, []).append("adapter" in message.content.array_records)
        return honest_app(message, context)

    app = ClientApp()
    app.query()(serve)
    app.train()(serve)
    app.train("adapter")(serve)
    app.evaluate()(serve)
    history = run(app, server__personalized_every=1).read_history()
    assert carried == {0: [True, False], 1: [True, False], 2: [True]}
    assert history[2].clients[2]["adapted"] is True


def test_a_client_that_has_lost_it_is_sent_it_again(
    run: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    shared = AdapterTuning.shared

    def forgetful(tuning: AdapterTuning, name: str, adapter: SharedAdapter) -> ClientGenerator:
        if name != "client 0":
            return shared(tuning, name, adapter)
        asked.append(bool(adapter.up))
        with monkeypatch.context() as patch:
            if len(asked) == 2:
                patch.setattr(AdapterCache, "get", lambda *_: None)
            return shared(tuning, name, adapter)

    monkeypatch.setattr(AdapterTuning, "shared", forgetful)
    history = run(rounds=3, workers=1).read_history()
    assert asked == [True, False, True]
    (failure,) = (each for record in history for each in record.failures if "client 0" in each)
    assert "is no longer in this client's cache" in failure


def test_without_enough_answers_the_run_fails_and_says_why(
    run: Federate, make_client: MakeClient
) -> None:
    def misbehave(reply: Message, partition_id: int) -> Message:
        if partition_id:
            raise ValueError("out of memory")
        return reply

    with pytest.raises(RunError, match=r"adapter round 1: 1 of 3 replies .*server\.min-replies=2"):
        run(make_client(misbehave, KIND), server__min_replies=2, server__min_nodes=2)


def test_where_nobody_can_tune_the_generator_stays_frozen(
    run: Federate, caplog: pytest.LogCaptureFixture
) -> None:
    history = run(lora__min_images=1000).read_history()
    assert "no client has lora.min-images=1000 images" in caplog.text
    assert not any(facts["adapted"] for facts in history[1].clients.values())


def test_what_leaves_is_announced(run: Federate, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="regl"):
        run(rounds=1)
    words = "an adapter tuned on its images leaves each client once before round 1"
    (line,) = (record.message for record in caplog.records if words in record.message)
    assert line.startswith("regl-shared: 3 clients")


def test_a_server_without_the_generator_says_so(
    run: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(path: str, *, fetch: bool = True) -> Path:
        raise GeneratorError(f"generator.path {path!r} is no folder")

    monkeypatch.setattr("server_app.main.resolve_generator", absent)
    with pytest.raises(GeneratorError, match="is no folder"):
        run()


def test_a_node_that_was_put_right_before_the_first_round_tunes_as_well(
    run: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused at hello, it is asked again because another has gone and the run waits for two."""
    kinds: list[str] = []
    every = InProcessGrid.get_node_ids

    def node_ids(grid: InProcessGrid) -> list[int]:
        return [node for node in every(grid) if node != 1002 or not kinds]

    def serve(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            kinds.append(message.metadata.message_type)
            if len(kinds) == 1:
                raise ConfigError("client 1: data-dir must be an absolute path")
        return honest_app(message, context)

    app = ClientApp()
    for register in (app.query, app.train, app.evaluate):
        register()(serve)
    app.train("adapter")(serve)
    monkeypatch.setattr(InProcessGrid, "get_node_ids", node_ids)
    run(app, server__min_nodes=2, server__timeout=30.0)
    assert kinds[:3] == ["query", "query", KIND]
