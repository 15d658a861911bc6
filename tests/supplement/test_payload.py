from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from regl_app.core.errors import ProtocolError
from regl_app.core.types import Indices, Labels
from regl_app.data.images import ImageSet
from regl_app.supplement.payload import Payload, PoolReference, unpack

SHAPE = (1, 8, 8)


def images(count: int = 6) -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=random)
    return ImageSet(pixels, torch.arange(count) % 3)


def by_reference(labels: Labels, indices: Indices) -> Payload:
    return Payload(labels, PoolReference("abc", indices))


def test_an_adapters_file_travels_only_to_who_lacks_it() -> None:
    reference = PoolReference("abc", np.array([0]), "def", np.array([1, 0, 0]))
    payload = Payload(np.array([0]), reference, adapter_file=b"file")
    assert payload.for_holder("def").adapter_file == b""
    for other in ("", "older"):
        assert payload.for_holder(other).adapter_file == b"file"
    pixels = Payload.of_images(images())
    assert pixels.for_holder("") == pixels


def test_pixels_arrive_bit_for_bit() -> None:
    for count in (0, 1, 6):
        sent = images(count)
        found = unpack(Payload.of_images(sent), SHAPE, None)
        assert torch.equal(found.images, sent.images)
        assert torch.equal(found.labels, sent.labels)


def test_references_lead_to_the_clients_own_images() -> None:
    pool, indices = images(), np.array([5, 0, 3])
    found = unpack(by_reference(pool.labels.numpy()[indices], indices), SHAPE, pool)
    assert torch.equal(found.images, pool.images[indices])


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (Payload(np.array([0, 1]), pixels=zlib.compress(bytes(3 * 64))), "must be 128 bytes.*more"),
        (Payload(np.array([0, 1]), pixels=zlib.compress(bytes(64))), "must be 128 bytes.*got 64"),
        (Payload(np.array([0]), pixels=b"no zlib"), "cannot be decompressed"),
        (by_reference(np.array([0]), np.array([6])), "must be < 6, got 6"),
        (by_reference(np.array([1]), np.array([0])), "other classes than sent"),
        (by_reference(np.array([1, 2]), np.array([1])), "2 images came as 1 places"),
    ],
)
def test_what_does_not_fit_is_refused(payload: Payload, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        unpack(payload, SHAPE, images())


def test_a_bomb_is_not_unpacked() -> None:
    bomb = Payload(np.array([0]), pixels=zlib.compress(bytes(10**8)))
    with pytest.raises(ProtocolError, match="more"):
        unpack(bomb, SHAPE, None)


def test_a_cut_takes_the_first_of_every_class_in_proportion() -> None:
    sent = images(12).subset([0, 3, 6, 9, 1, 4, 2])  # 4, 2 and 1 of a class
    opinion = torch.eye(3)[sent.labels] * 0.5 + 0.1
    whole = Payload.of_images(sent).with_opinion(opinion)
    assert whole.cut(7) is whole and whole.cut(8) is whole
    part, places = whole.cut(4), [0, 1, 4, 6]
    found = unpack(part, SHAPE, None)
    assert torch.equal(found.images, sent.images[places])
    assert torch.equal(found.labels, sent.labels[places])
    rows = whole.probabilities(3), part.probabilities(3)
    assert rows[0] is not None and rows[1] is not None and torch.equal(rows[1], rows[0][places])
    indices = np.array([10, 11, 12, 13, 20, 21, 30])
    reference = PoolReference("abc", indices, "def", np.array([14, 22, 31]))
    named = Payload(sent.labels.numpy(), reference, adapter_file=b"file").cut(4)
    assert named.adapter_file == b"file" and named.reference is not None
    assert named.reference.indices.tolist() == [10, 11, 20, 30]
    assert named.reference.sequence is reference.sequence
    assert named.labels.tolist() == [0, 0, 1, 2]


def test_a_cut_that_leaves_classes_out_leaves_out_others_for_each_order() -> None:
    whole = Payload.of_images(images(6).subset([0, 1, 2]))  # one of each class
    order = np.array([2, 0, 1, 3])  # of all classes: the third one first, once the second is in
    assert whole.cut(2).labels.tolist() == [0, 1]
    assert sorted(whole.cut(2, order).labels.tolist()) == [1, 2]
    assert whole.cut(1, order).labels.tolist() == [1]
