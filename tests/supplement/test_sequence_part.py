from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from regl_app.supplement.sequence_part import SequencePart, portions


def test_a_part_names_its_images() -> None:
    assert SequencePart(2, 3, 5).positions == [(2, 3), (2, 4)]
    assert len(SequencePart(2, 3, 5)) == 2


def test_a_class_is_cut_where_a_portion_is_full() -> None:
    parts = [SequencePart(0, 1, 3), SequencePart(4, 0, 3)]
    assert portions(parts, 4) == [[parts[0], SequencePart(4, 0, 2)], [SequencePart(4, 2, 3)]]
    assert portions([], 4) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=6), st.integers(1, 7))
def test_portions_hold_every_image_once_and_in_order(
    lengths: list[tuple[int, int]], size: int
) -> None:
    parts = [SequencePart(c, first, first + n) for c, (first, n) in enumerate(lengths)]
    cut = portions(parts, size)
    positions = [position for portion in cut for part in portion for position in part.positions]
    assert positions == [position for part in parts for position in part.positions]
    assert all(sum(map(len, portion)) == size for portion in cut[:-1])
    assert all(0 < sum(map(len, portion)) <= size for portion in cut)
