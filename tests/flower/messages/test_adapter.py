"""What passes for an adapter of all clients is checked on both sides."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array, ConfigRecord, RecordDict

from regl_app.core.errors import ProtocolError
from regl_app.core.types import Tensors
from regl_app.flower.messages.adapter import (
    AdapterReply,
    AdapterRequest,
    get_adapter,
    put_adapter,
)
from regl_app.flower.messages.content import ADAPTER, OURS
from regl_app.flower.messages.handshake import Handshake
from regl_app.generator.adaptation.shared import SharedAdapter

NAME = "unet.a.lora_B.weight"
UP = {NAME: torch.arange(4.0).reshape(4, 1)}
HANDSHAKE = Handshake("code", "config", 3)
Change = Callable[[RecordDict], object]


def template() -> Tensors:
    return {NAME: torch.zeros(4, 1)}


def reply() -> AdapterReply:
    return AdapterReply(2, 1, 7, UP, {"adapt": 1.5}, {"adapter_steps": 3})


def set_field(key: str, value: object) -> Change:
    return lambda content: content[OURS].__setitem__(key, value)  # type: ignore[arg-type]


def set_array(value: np.ndarray) -> Change:
    return lambda content: content[ADAPTER].__setitem__(NAME, Array(value))  # type: ignore[arg-type]


def test_requests_and_replies_come_back_as_they_were() -> None:
    got = AdapterReply.read(reply().to_content(), number=1, template=template())
    assert {**vars(got), "up": None} == {**vars(reply()), "up": None}
    assert torch.equal(got.up[NAME], UP[NAME])
    for up in ({}, UP):
        sent = AdapterRequest(2, up).to_content(HANDSHAKE)
        request = AdapterRequest.read(sent, HANDSHAKE, template)
        assert (request.number, request.up.keys()) == (2, up.keys())
    few = AdapterReply(0, 1, 0)
    assert AdapterReply.read(few.to_content(), number=1, template=template()) == few


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_field("adapter-round", 2), r"adapter-round must be 1, got 2 \(a late reply\)"),
        (set_field("partition-id", -1), "partition-id must be >= 0"),
        (set_field("images", 0), "images=0 contradicts a reply with adapter"),
        (set_field("images", -2), "images must be >= 0"),
        (set_field("facts.adapter_loss", math.nan), "facts.adapter_loss must be"),
        (set_array(np.full((4, 1), np.nan, np.float32)), "must be finite, got NaN or infinity"),
        (set_array(np.zeros((4, 2), np.float32)), r"must be float32 \(4, 1\), got float32 \(4, 2"),
        (lambda content: content.__delitem__(ADAPTER), "contradicts a reply without adapter"),
    ],
)
def test_a_part_that_cannot_be_used_is_refused(change: Change, why: str) -> None:
    content = reply().to_content()
    change(content)
    with pytest.raises(ProtocolError, match=why):
        AdapterReply.read(content, number=1, template=template())


def test_a_client_sends_no_part_that_is_not_finite() -> None:
    with pytest.raises(ProtocolError, match="must be finite"):
        AdapterReply(0, 1, 3, {NAME: torch.full((4, 1), torch.inf)}).to_content()


def test_a_request_is_of_the_same_run_and_that_has_such_an_adapter() -> None:
    content = AdapterRequest(1).to_content(HANDSHAKE)
    with pytest.raises(ProtocolError, match="config-digest must be 'other'"):
        AdapterRequest.read(content, Handshake("code", "other", 3), template)
    with pytest.raises(ProtocolError, match=r"needs supplement\.adapter='shared'"):
        AdapterRequest.read(content, HANDSHAKE, None)


def carrying(adapter: SharedAdapter | None) -> RecordDict:
    content = RecordDict({OURS: ConfigRecord({})})
    put_adapter(content, adapter)
    return content


def test_an_adapter_travels_whole_or_by_its_digest() -> None:
    whole = SharedAdapter.of(UP)
    got = get_adapter(carrying(whole), template)
    assert got is not None and got.digest == whole.digest
    assert torch.equal(got.up[NAME], UP[NAME])
    assert get_adapter(carrying(SharedAdapter(whole.digest)), template) == SharedAdapter(
        whole.digest
    )
    assert get_adapter(carrying(None), template) is None
    assert get_adapter(carrying(None), None) is None


def test_another_adapter_than_was_named_is_refused() -> None:
    with pytest.raises(ProtocolError, match="adapter must have digest"):
        get_adapter(carrying(SharedAdapter("0" * 64, UP)), template)
    with pytest.raises(ProtocolError, match="64 hexadecimal digits"):
        get_adapter(carrying(SharedAdapter("../../x", UP)), template)
    with pytest.raises(ProtocolError, match=r"must hold no adapter without supplement\.adapter"):
        get_adapter(carrying(SharedAdapter.of(UP)), None)
    nameless = carrying(SharedAdapter.of(UP))
    del nameless.config_records[OURS][ADAPTER]
    with pytest.raises(ProtocolError, match="must hold no adapter without its digest"):
        get_adapter(nameless, template)
