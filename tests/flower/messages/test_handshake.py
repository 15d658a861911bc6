"""Orders of another run, another code or another federation are refused."""

from __future__ import annotations

import pytest
from flwr.app import RecordDict

from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.content import OURS, order_record, read_order
from regl_app.flower.messages.handshake import VERSION, Envelope
from regl_app.flower.messages.train import TrainInstruction

CLASSES = 3
MINE = Envelope("code", "config", 4)


@pytest.mark.parametrize(
    ("sender", "message"),
    [
        (Envelope("other", "config", 4), "code-hash must be 'code', got 'other'.*restart"),
        (Envelope("code", "other", 4), "config-digest must be 'config', got 'other'"),
        (Envelope("code", "config", 5), "num-partitions must be 5, .* got 4 .*--node-config"),
    ],
)
def test_what_is_not_ones_own_is_refused(sender: Envelope, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        TrainInstruction.read(
            RecordDict({OURS: TrainInstruction(1).to_record(sender)}), MINE, CLASSES
        )
    with pytest.raises(ProtocolError, match=message):
        read_order(RecordDict({OURS: order_record(0, sender)}), MINE)


def test_before_the_server_knows_their_number_any_client_may_introduce_itself() -> None:
    first = Envelope("code", "config")
    assert read_order(RecordDict({OURS: order_record(0, first)}), MINE) == 0


def test_another_protocol_version_is_refused_before_anything_else() -> None:
    record = order_record(1, Envelope("other", "other"))
    record["version"] = 99
    with pytest.raises(ProtocolError, match=f"version must be {VERSION}, got 99"):
        read_order(RecordDict({OURS: record}), MINE)
