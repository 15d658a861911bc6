"""What a client does at the end of its turn, however that ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from client_app import handlers


@pytest.mark.parametrize("handler", [handlers.train, handlers.tune])
def test_a_turn_ends_with_the_card_s_memory_given_back(
    handler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def failed(*_: object, **__: object) -> None:
        assert not given
        raise RuntimeError("amid its turn")

    node: Any = SimpleNamespace(client=SimpleNamespace(device="a card"))
    for name in ("handshake", "num_classes", "payload_limits", "template"):
        setattr(node, name, None)
    node.method_template = node.adapter_template = None
    request: Any = SimpleNamespace(read=lambda *_: SimpleNamespace(run_dir=""))
    monkeypatch.setattr(handlers, "Node", SimpleNamespace(of=lambda *_: node))
    monkeypatch.setattr(handlers, "TrainRequest", request)
    monkeypatch.setattr(handlers, "AdapterRequest", request)
    for name in ("run_of", "arrays_of", "weights_from_record"):
        monkeypatch.setattr(handlers, name, lambda *_: None)
    monkeypatch.setattr(handlers, "train_round", failed)
    monkeypatch.setattr(handlers, "tune_part", failed)
    monkeypatch.setattr(handlers, "give_back_memory", given.append)
    with pytest.raises(RuntimeError, match="amid its turn"):
        handler(None, None)
    assert given == ["a card"]
