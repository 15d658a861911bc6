"""What a run leaves behind, and how the server treats clients that are not like the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.serverapp import Grid

from regl_app.core.errors import ConfigError, RunError
from regl_app.flower.engines.in_process import InProcessGrid
from regl_app.runs.folder import RunFolder
from server_app import round_loop

Federate = Callable[..., RunFolder]


def test_a_run_leaves_all_its_files(federate: Federate) -> None:
    folder = federate(tensorboard=True, report=True)
    facts, result = folder.read_facts(), folder.read_result()
    assert facts is not None
    assert result is not None
    assert result.status == "finished"
    assert (facts.num_clients, facts.class_names[3], facts.concepts[3]) == (
        4, "3", "the digit three",
    )  # fmt: skip
    assert facts.train_counts is not None
    assert folder.load_model()
    assert [path.name for path in sorted(folder.checkpoints.iterdir())] == [
        "round-0001.safetensors",
        "round-0002.safetensors",
    ]
    assert list((folder.path / "tensorboard").glob("events.*"))
    assert (folder.path / "features.npz").is_file()
    assert folder.report.is_file()


def test_the_history_tells_seconds_and_bytes_of_every_phase(federate: Federate) -> None:
    last = federate().read_history()[-1]
    assert set(last.seconds.clients) == {"train", "probe"}
    assert set(last.seconds.server) == {
        "wait_train", "aggregate", "evaluate", "wait_personalized",
    }  # fmt: skip
    # The model goes down twice (train, evaluate) and comes up once.
    assert 1.9 < last.bytes.down / last.bytes.up < 2.2
    assert set(last.clients) == {0, 1, 2, 3}
    assert 0 <= float(last.clients[0]["local_accuracy"] or 0) <= 1


def test_labels_stay_private_when_diagnostics_are_off(federate: Federate) -> None:
    folder = federate(share_diagnostics=False)
    facts, last = folder.read_facts(), folder.read_history()[-1]
    assert facts is not None
    assert facts.train_counts is None
    assert last.real_counts is None
    assert last.synthetic_counts is None
    assert not list(folder.samples.iterdir())


def test_clients_without_images_are_reported_and_left_out_of_the_average(
    federate: Federate,
) -> None:
    folder = federate(method="central")
    last = folder.read_history()[-1]
    assert last.real_counts is not None
    assert [sum(row or []) > 0 for row in last.real_counts] == [True, False, False, False]
    assert not last.failures


def test_personalized_evaluation_follows_its_period(federate: Federate) -> None:
    history = federate(rounds=5, server__personalized_every=2).read_history()
    assert [r.round for r in history if r.personalized is not None] == [2, 4, 5]
    history = federate(rounds=2, server__personalized_every=0).read_history()
    assert [r.round for r in history if r.personalized is not None] == [2]


def test_more_nodes_than_there_are_is_an_error_not_an_endless_wait(federate: Federate) -> None:
    with pytest.raises(RunError, match=r"4 nodes connected within server\.timeout=1 s"):
        federate(server__min_nodes=5, server__timeout=1.0)


def test_a_device_that_is_not_there_is_refused(federate: Federate) -> None:
    with pytest.raises(ConfigError, match="device must be one of this machine's"):
        federate(device="cuda:63")


@pytest.mark.parametrize("clients", [1, 2, 7])
def test_any_number_of_clients_works(federate: Federate, clients: int) -> None:
    facts = federate(clients=clients, rounds=1).read_facts()
    assert facts is not None
    assert facts.num_clients == clients


@pytest.mark.parametrize("back", [True, False])
def test_a_round_waits_for_nodes_that_have_gone_and_gives_up_in_time(
    federate: Federate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    back: bool,
) -> None:
    caplog.set_level("INFO")
    everyone, require = InProcessGrid.get_node_ids, round_loop.require_nodes
    waits = "1 nodes connected, waiting for 3 (server.min-nodes); gives up in"

    def connected(grid: InProcessGrid) -> list[int]:
        nodes = list(everyone(grid))
        away = "round 1/2" in caplog.text and not (back and waits in caplog.text)
        return nodes[:1] if away else nodes

    def impatient(grid: Grid, at_least: int, _timeout: float, *others: Any) -> None:
        require(grid, at_least, 1.0, *others)

    monkeypatch.setattr(InProcessGrid, "get_node_ids", connected)
    keys = {"server__min_nodes": 3, "server__timeout": 60.0}
    if back:
        assert len(federate(**keys).read_history()) == 3
    else:
        # The key itself bounds the phases of round 1 as well, which may take longer.
        monkeypatch.setattr(round_loop, "require_nodes", impatient)
        with pytest.raises(RunError, match=r"1 nodes connected within server\.timeout=1 s"):
            federate(**keys)
    assert waits in caplog.text
