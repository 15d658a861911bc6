"""A client that has done its work already is asked again, and the run ends as if it was not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import InProcessGrid, run_in_process
from regl_app.flower.messages.content import OURS
from regl_app.runs.folder import RunFolder

KEPT = ("metrics", "personalized", "discrepancy", "quotas", "real_counts", "synthetic_counts")
AWAY, TORN = ErrorCode.NODE_UNAVAILABLE, ErrorCode.MESSAGE_UNAVAILABLE


def run(settings: dict[str, Scalar], folder: Path, **changes: Scalar) -> RunFolder:
    own: dict[str, Scalar] = {"out-dir": str(folder), "cache-dir": str(folder / "cache")}
    config = RunConfig.from_flat({**settings, **own, **changes})
    return RunFolder.open(run_in_process(config, clients=3, workers=1))


@pytest.fixture(scope="module")
def settings(
    small_settings: dict[str, Scalar], quick_generator: dict[str, Scalar]
) -> dict[str, Scalar]:
    return small_settings | quick_generator | {"report": False}


@pytest.fixture(scope="module")
def calm(settings: dict[str, Scalar], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run whose clients are asked once."""
    return run(settings, tmp_path_factory.mktemp("calm"))


def lose(patch: pytest.MonkeyPatch, lost: set[int], code: int) -> list[int]:
    """Lose replies of round 2's training, after the work; return how many are asked each time."""
    serve = InProcessGrid.send_and_receive
    asked: list[int] = []

    def serving(self: Any, messages: Iterable[Message], **how: Any) -> Iterable[Message]:
        messages = list(messages)
        ours = messages[0].content.config_records[OURS]
        replies = {r.metadata.reply_to_message_id: r for r in serve(self, messages, **how)}
        if (ours["round"], messages[0].metadata.message_type) == (2, "train"):
            asked.append(len(messages))
            ids = sorted(self.get_node_ids())
            for message in messages if len(asked) == 1 else ():
                if ids.index(message.metadata.dst_node_id) in lost:
                    error = Message(Error(code, "a link was gone"), reply_to=message)
                    replies[message.metadata.message_id] = error
        return list(replies.values())

    patch.setattr(InProcessGrid, "send_and_receive", serving)
    return asked


@pytest.mark.parametrize(
    ("lost", "code", "needed"),
    [({0, 1, 2}, AWAY, 1), ({0, 2}, AWAY, 3), ({1}, TORN, 1)],
    ids=["all given up", "some given up", "a reply torn"],
)
def test_a_round_whose_clients_are_asked_twice_ends_like_any_other(
    settings: dict[str, Scalar],
    calm: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: set[int],
    code: int,
    needed: int,
) -> None:
    keys: dict[str, Scalar] = {"server.min-replies": needed, "server.min-nodes": needed}
    asked = lose(monkeypatch, lost, code)
    disturbed = run(settings, tmp_path, **keys)
    assert asked == [3, len(lost)]
    for mine, theirs in zip(disturbed.read_history(), calm.read_history(), strict=True):
        assert not mine.failures
        for name in KEPT:
            assert getattr(mine, name) == getattr(theirs, name), (mine.round, name)
    expected = calm.load_model()
    assert all(torch.equal(value, expected[k]) for k, value in disturbed.load_model().items())
