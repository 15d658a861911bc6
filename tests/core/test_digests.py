"""Digests name what lies in caches: their values must not change."""

from __future__ import annotations

import hashlib

import torch

from regl_app.core.digests import digest_of_tensors, tensor_bytes


def test_values_stay_as_they_are() -> None:
    weight = torch.arange(12.0).view(1, 3, 2, 2)
    count = torch.tensor(7)
    content = b"weight torch.float32 (1, 3, 2, 2);" + weight.numpy().tobytes()
    content += b"count torch.int64 ();" + (7).to_bytes(8, "little")
    found = digest_of_tensors([("weight", weight), ("count", count)])
    assert found == hashlib.sha256(content).digest()
    assert found.hex()[:16] == "4f47ec2247eef4a6"


def test_layout_does_not_matter_but_order_name_type_and_shape_do() -> None:
    tensor = torch.arange(24.0).view(1, 3, 2, 4)
    plain = digest_of_tensors([("a", tensor)])
    assert digest_of_tensors([("a", tensor.to(memory_format=torch.channels_last))]) == plain
    others = [("b", tensor), ("a", tensor.to(torch.float64)), ("a", tensor.view(3, 1, 2, 4))]
    assert plain not in {digest_of_tensors([other]) for other in others}
    first, second = ("a", torch.zeros(1)), ("b", torch.ones(1))
    assert digest_of_tensors([first, second]) != digest_of_tensors([second, first])


def test_bytes_of_what_is_empty_or_needs_a_gradient() -> None:
    assert bytes(tensor_bytes(torch.zeros((0, 1, 4), dtype=torch.uint8))) == b""
    assert bytes(tensor_bytes(torch.tensor([1, 258]))) == b"\1" + bytes(7) + b"\2\1" + bytes(6)
    assert len(tensor_bytes(torch.ones(3, requires_grad=True))) == 12
