"""Nodes whose files are not those of the others are refused by name, with what to bring where."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.main import app as honest_app
from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError, DataError, RunError
from regl_app.core.files import sha256_file
from regl_app.data.federation import Federation
from regl_app.flower.engines.in_process import InProcessGrid
from regl_app.flower.messages.alike import (
    DISTANCE,
    GENERATOR,
    IMAGE_ENCODER,
    IP_ADAPTER,
    ROWS,
    agreed,
    difference,
)
from regl_app.flower.shared_files import alike_here
from regl_app.generator.encoder_files import image_encoder_digest
from regl_app.runs.folder import RunFolder
from server_app import nodes

Federate = Callable[..., RunFolder]


def trained(folder: RunFolder) -> set[int]:
    """Return who trained in the last round."""
    return {key for key, facts in folder.read_history()[-1].clients.items() if "loss" in facts}


def dealt(path: Path, *parts: range) -> None:
    path.write_text(json.dumps([list(part) for part in parts]))


def with_its_own_file(path: Path, client: int, later: bool = False) -> ClientApp:
    """Return an app whose ``client`` has another ``partition.file`` at the same path."""
    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] != client:
            return honest_app(message, context)
        before = path.read_bytes()
        dealt(path, range(40), range(60, 110), range(120, 180))
        try:
            return honest_app(message, context)
        finally:
            path.write_bytes(before)

    app.query()(honest_app if later else serve)
    app.train()(serve)
    app.evaluate()(serve)
    return app


def test_a_node_with_another_partition_file_is_refused(
    federate: Federate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "who.json"
    dealt(path, range(60), range(60, 120), range(120, 180))
    keys = {"partition__scheme": "file", "partition__file": str(path), "data__max_train": 0}
    app = with_its_own_file(path, 1)
    folder = federate(app, 3, **keys)
    told = r"client 1: partition\.file names a file that must be alike .* \(copy the server's to"
    assert re.search(rf"hello: node \S+: failed: {told}", caplog.text)
    assert trained(folder) == {0, 2}
    with pytest.raises(RunError, match=told):
        federate(app, 3, **keys, server__min_nodes=3)
    caplog.clear()
    folder = federate(with_its_own_file(path, 1, later=True), 3, **keys)
    assert re.search(rf"train: client 1: failed: {told[10:]}", caplog.text)
    assert trained(folder) == {0, 2}


def test_a_run_does_not_go_on_with_another_partition_file(
    federate: Federate, tmp_path: Path
) -> None:
    path = tmp_path / "who.json"
    dealt(path, range(60), range(60, 120))
    keys = {"partition__scheme": "file", "partition__file": str(path), "data__max_train": 0}
    run = federate(None, 2, **keys)
    (run.path / "result.json").unlink()
    dealt(path, range(60), range(60, 110))
    with pytest.raises(RunError, match=r"or partition\.file='.*who\.json' have changed since"):
        federate(None, 2, **keys, resume=str(run.path))
    path.unlink()
    with pytest.raises(DataError, match=r"partition\.file=.* cannot be read: No such file"):
        federate(None, 2, **keys)


def test_a_node_that_deals_otherwise_is_refused_whenever_it_is_asked(
    federate: Federate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serving = [0]

    def alike(config: RunConfig, federation: Federation) -> dict[str, str]:
        return alike_here(config, federation) | ({ROWS: "0" * 64} if serving == [1] else {})

    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        serving[0] = int(context.node_config["partition-id"])
        return honest_app(message, context)

    app.query()(serve)
    app.train()(serve)
    app.evaluate()(serve)
    monkeypatch.setattr("client_app.node.alike_here", alike)
    folder = federate(app, 3)
    told = "client 1: refused: this node deals the images to the clients otherwise than the server"
    assert f"hello: {told}" in caplog.text and "regl partition --write" in caplog.text
    last = folder.read_history()[-1]
    assert trained(folder) == {0, 2}
    assert any("hello: " in why and told.replace("refused: ", "") in why for why in last.failures)
    with pytest.raises(
        RunError, match=rf"2 of 3 nodes can take part, .*min-nodes=3\n  hello: {told}"
    ):
        federate(app, 3, server__min_nodes=3)


def failing(client: int, kinds: list[str], broken: Callable[[int], bool]) -> ClientApp:
    """Return an app whose ``client`` fails; ``broken`` gets how often it has been asked before.

    ``kinds`` receives what it is asked for.
    """
    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == client:
            kinds.append(message.metadata.message_type)
            if broken(len(kinds) - 1):
                raise ConfigError(f"client {client}: data-dir must be an absolute path")
        return honest_app(message, context)

    app.query()(serve)
    app.train()(serve)
    app.evaluate()(serve)
    return app


def test_a_node_refused_at_hello_costs_its_own_part_and_no_round(federate: Federate) -> None:
    kinds: list[str] = []
    app = failing(1, kinds, lambda _: True)
    folder = federate(app, 3, rounds=8, server__fraction=0.34)
    history = folder.read_history()[1:]
    assert [len(record.clients) for record in history] == [1] * 8
    assert {client for record in history for client in record.clients} == {0, 2}
    told = "failed: client 1: data-dir must be an absolute path"
    assert all([f"hello: node 1001: {told}"] == record.failures for record in history)
    assert set(kinds) == {"query"}  # it gets no model


def test_who_was_refused_does_not_count_in_the_share(federate: Federate) -> None:
    """Of five a share of 0.3 would be two."""
    folder = federate(failing(0, [], lambda _: True), 5, rounds=2, server__fraction=0.3)
    assert [len(record.clients) for record in folder.read_history()[1:]] == [1, 1]


def test_a_node_that_was_put_right_takes_part_from_the_next_round_on(
    federate: Federate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "regl")
    app = failing(1, [], lambda before: before < 2)  # at hello, and in round 1
    history = federate(app, 3, rounds=4).read_history()
    assert [sorted(record.clients) for record in history[1:]] == [
        [0, 2],
        [0, 2],
        [0, 1, 2],
        [0, 1, 2],
    ]
    assert [len(record.failures) for record in history[1:]] == [1, 0, 0, 0]
    assert "node 1001 is client 1: it takes part from now on" in caplog.text


def test_a_node_that_was_put_right_is_asked_before_others_are_waited_for(
    federate: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another has gone for good, and by two the run can go on."""
    kinds: list[str] = []
    app, every = failing(1, kinds, lambda before: before < 1), InProcessGrid.get_node_ids

    def node_ids(grid: InProcessGrid) -> list[int]:
        return [node for node in every(grid) if node != 1002 or not kinds]

    monkeypatch.setattr(InProcessGrid, "get_node_ids", node_ids)
    folder = federate(app, 3, rounds=2, server__min_nodes=2, server__timeout=20.0)
    assert [sorted(record.clients) for record in folder.read_history()[1:]] == [[0, 1], [0, 1]]


def test_a_node_that_is_put_right_while_others_are_waited_for_ends_the_wait(
    federate: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers the fourth question, the third of those that come while the server waits."""
    monkeypatch.setattr(nodes, "_TELL_SECONDS", 1.0)
    kinds: list[str] = []
    app, every = failing(1, kinds, lambda before: before < 3), InProcessGrid.get_node_ids

    def node_ids(grid: InProcessGrid) -> list[int]:
        return [node for node in every(grid) if node != 1002 or not kinds]

    monkeypatch.setattr(InProcessGrid, "get_node_ids", node_ids)
    folder = federate(app, 3, rounds=2, server__min_nodes=2, server__timeout=20.0)
    first, second = folder.read_history()[1:]
    assert [sorted(record.clients) for record in (first, second)] == [[0, 1], [0, 1]]
    told = "failed: client 1: data-dir must be an absolute path"
    assert first.failures == [f"hello: node 1001: {told}"]  # once, however often it was asked
    assert not second.failures


def test_nodes_that_were_refused_are_none_to_wait_for(
    federate: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round needs server.min-nodes that take part, whatever else is connected."""
    app, every = failing(1, [], lambda _: True), InProcessGrid.get_node_ids
    asked = [0]

    def node_ids(grid: InProcessGrid) -> list[int]:
        asked[0] += 1
        return [node for node in every(grid) if node != 1002 or asked[0] < 4]

    monkeypatch.setattr(InProcessGrid, "get_node_ids", node_ids)
    with pytest.raises(
        RunError, match=r"1 nodes that can take part connected within server\.timeout=3 s"
    ):
        federate(app, 3, server__min_nodes=2, server__timeout=3.0)


def test_what_the_server_has_holds_else_what_most_have() -> None:
    told = {
        0: {GENERATOR: "a", ROWS: "r"},
        1: {GENERATOR: "b", ROWS: "r"},
        2: {GENERATOR: "b", ROWS: "r", DISTANCE: "d"},
        3: {},
    }
    assert agreed(told, {ROWS: "r"}) == {ROWS: "r", GENERATOR: "b", DISTANCE: "d"}
    own = {ROWS: "s", GENERATOR: "a", DISTANCE: "e"}
    assert agreed(told, own) == own
    assert agreed({0: {ROWS: "r"}, 1: {ROWS: "s"}}, {}) == {ROWS: "r"}
    assert agreed({}, {}) == {}


def test_what_a_node_lacks_is_no_difference() -> None:
    assert difference({}, {ROWS: "r"}, "others") is None
    assert difference({ROWS: "r"}, {}, "others") is None
    assert difference({ROWS: "r", GENERATOR: "a"}, {ROWS: "r", GENERATOR: "a"}, "others") is None
    why = difference({ROWS: "r", GENERATOR: "a"}, {ROWS: "r", GENERATOR: "b"}, "at most clients")
    assert why is not None and "another checkpoint here than at most clients (bring" in why
    why = difference({DISTANCE: "a"}, {DISTANCE: "b"}, "at most clients")
    assert why is not None and "supplement.distance leads to other weights here" in why


def test_what_shows_the_generator_pictures_must_be_alike(
    second_pipeline: Path,
    save_ip_adapter: Callable[..., Path],
    save_clip: Callable[..., Path],
    tmp_path: Path,
) -> None:
    file, encoder = save_ip_adapter(second_pipeline, tmp_path), save_clip(tmp_path / "clip")
    keys = {
        "method": "regl",
        "generator.path": str(second_pipeline),
        "generator.ip-adapter": str(file),
        "generator.image-encoder": str(encoder),
    }
    no_rows: Any = SimpleNamespace(digest="")
    told = alike_here(RunConfig.from_flat(keys), no_rows)
    assert told[IP_ADAPTER] == sha256_file(file)
    assert told[IMAGE_ENCODER] == image_encoder_digest(encoder)
    for key, words in (
        (IP_ADAPTER, "generator.ip-adapter leads to another file here than at most clients"),
        (IMAGE_ENCODER, "generator.image-encoder leads to another encoder here"),
    ):
        why = difference({**told, key: "0" * 64}, agreed({0: told}, {}), "at most clients")
        assert why is not None and words in why
    unread = RunConfig.from_flat({**keys, "generator.ip-adapter": ""})
    assert alike_here(unread, no_rows).keys() == {GENERATOR}
    absent = {"generator.ip-adapter": "/absent.safetensors", "generator.image-encoder": "/absent"}
    assert alike_here(RunConfig.from_flat({**keys, **absent}), no_rows).keys() == {GENERATOR}
