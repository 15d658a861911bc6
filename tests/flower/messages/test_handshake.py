"""Requests of another run, another code or another federation are refused."""

from __future__ import annotations

import pytest
from flwr.app import RecordDict

from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.content import OURS, read_request, request_record
from regl_app.flower.messages.handshake import VERSION, Handshake
from regl_app.flower.messages.train import TrainRequest

CLASSES = 3
MINE = Handshake("code", "config", 4)


@pytest.mark.parametrize(
    ("sender", "message"),
    [
        (Handshake("other", "config", 4), "code-hash must be 'code', got 'other'.*restart"),
        (Handshake("code", "other", 4), "config-digest must be 'config', got 'other'"),
        (Handshake("code", "config", 5), "num-partitions must be 5, .* got 4 .*--node-config"),
    ],
)
def test_what_is_not_ones_own_is_refused(sender: Handshake, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        TrainRequest.read(RecordDict({OURS: TrainRequest(1).to_record(sender)}), MINE, CLASSES)
    with pytest.raises(ProtocolError, match=message):
        read_request(RecordDict({OURS: request_record(0, sender)}), MINE)


@pytest.mark.parametrize(
    ("servers", "own"),
    [
        ({"partition.file": "a" * 64}, {"partition.file": "b" * 64}),
        ({"partition.file": "a" * 64}, {}),
        ({}, {"partition.file": "b" * 64}),
    ],
)
def test_files_are_compared_by_content(servers: dict[str, str], own: dict[str, str]) -> None:
    record = request_record(0, Handshake("code", "config", 4, servers))
    mine = Handshake("code", "config", 4, own)
    with pytest.raises(
        ProtocolError, match=r"^partition\.file names a file .* \(copy the server's"
    ):
        read_request(RecordDict({OURS: record}), mine)
    same = request_record(0, Handshake("code", "config", 4, own))
    assert read_request(RecordDict({OURS: same}), mine) == 0


def test_a_digest_that_is_none_is_refused() -> None:
    record = request_record(0, Handshake("code", "config", 4, {"partition.file": "x"}))
    with pytest.raises(ProtocolError, match=r"file\.partition\.file must be 64 hexadecimal digits"):
        read_request(RecordDict({OURS: record}), MINE)


def test_before_the_server_knows_their_number_any_client_may_introduce_itself() -> None:
    first = Handshake("code", "config")
    assert read_request(RecordDict({OURS: request_record(0, first)}), MINE) == 0


def test_another_protocol_version_is_refused_before_anything_else() -> None:
    record = request_record(1, Handshake("other", "other"))
    record["version"] = 99
    with pytest.raises(ProtocolError, match=f"version must be {VERSION}, got 99"):
        read_request(RecordDict({OURS: record}), MINE)
