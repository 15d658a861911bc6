"""Small federations in this process, some with a client that misbehaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.main import app as honest_app
from regl_app.config import RunConfig
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.folder import RunFolder

Misbehave = Callable[[Message, int], Message]


def _make_client(misbehave: Misbehave, *phases: str) -> ClientApp:
    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        reply = honest_app(message, context)
        if message.metadata.message_type in phases:
            return misbehave(reply, int(context.node_config["partition-id"]))
        return reply

    app.query()(serve)
    app.train()(serve)
    app.train("adapter")(serve)
    app.evaluate()(serve)
    return app


@pytest.fixture
def make_client() -> Callable[..., ClientApp]:
    """Return what makes the project's ClientApp with some phases' replies passed through a fault.

    Arguments: a function of (reply, partition id) that returns the reply to send, and the phases.
    """
    return _make_client


Federate = Callable[..., RunFolder]


@pytest.fixture
def federate(tmp_path: Path) -> Federate:
    """Return a function that runs a small FedAvg with changes and returns its folder."""

    def run(
        client_app: ClientApp | None = None,
        clients: int = 4,
        workers: int = 1,
        sites: Sequence[Path] = (),
        **changes: object,
    ) -> RunFolder:
        flat = {
            "method": "fedavg",
            "rounds": 2,
            "train.steps": 2,
            "train.batch-size": 8,
            "model.width": 4,
            "data.max-train": 200,
            "data.max-test": 60,
            "data.image-size": 16,
            "partition.beta": 1.0,
            "tensorboard": False,
            "report": False,
            "out-dir": str(tmp_path / "runs"),
            "cache-dir": str(tmp_path / "cache"),
        }
        flat |= {key.replace("__", ".").replace("_", "-"): value for key, value in changes.items()}
        config = RunConfig.from_flat(flat)  # type: ignore[arg-type]
        path = run_in_process(
            config, clients=clients, sites=sites, client_app=client_app, workers=workers
        )
        return RunFolder.open(path)

    return run
