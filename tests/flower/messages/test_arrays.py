"""Arrays from a peer: one format, the announced size, nothing allocated for anything else."""

from __future__ import annotations

import io
import pickle
import struct

import numpy as np
import pytest
import torch
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st

from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.arrays import MOST_HEADER, decode

SHAPE = (2, 3)
GOOD = Array(np.arange(6, dtype=np.float32).reshape(SHAPE))


def _npy(header: str, values: bytes = bytes(24), version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + values


def _header(descr: str = "<f4", order: str = "False", shape: str = "(2, 3)") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n"


def _saved(write: object, *arguments: object) -> bytes:
    assert callable(write)
    stream = io.BytesIO()
    write(stream, *arguments)
    return stream.getvalue()


@given(
    st.sampled_from(["float32", "float16", "int64", "uint8", "bool"]),
    st.lists(st.integers(0, 4), max_size=5),
    st.booleans(),
)
def test_what_flower_writes_comes_back(dtype: str, shape: list[int], fortran: bool) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    sent = values.copy(order="F" if fortran else "C")
    found = decode("a", Array(sent), dtype, tuple(shape))
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype and found.flags.writeable


def test_what_torch_writes_comes_back() -> None:
    weights = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    np.testing.assert_array_equal(decode("a", Array(weights), "float32", (1, 2, 3, 4)), weights)


def test_the_longest_header_of_a_real_model_fits() -> None:
    shape = (1,) * 30 + (99999,)
    assert decode("a", Array(np.zeros(shape, np.uint8)), "uint8", shape).shape == shape


BAD = {
    "a zip archive": _saved(np.savez, np.zeros(3)),
    "a broken zip archive": b"PK\3\4" + bytes(50),
    "a pickle": pickle.dumps([1]),
    "nothing": b"",
    "a header that promises petabytes": _npy(_header(shape="(1000000000000000,)")),
    "a header of another shape": _npy(_header(shape="(3, 2)")),
    "a negative shape": _npy(_header(shape="(-2, -3)")),
    "a header of objects": _npy(_header(descr="|O")),
    "another byte order": _npy(_header(descr=">f4")),
    "a header that is no literal": _npy("(" * 300),
    "an expression": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1+1, 3), }\n"),
    "another version": _npy(_header(), version=b"\3\0"),
    "a header of another length": b"\x93NUMPY\1\0\x10\0" + _header().encode() + bytes(24),
    "a byte too few": _npy(_header(), bytes(23)),
    "a byte too many": _npy(_header(), bytes(25)),
}


@pytest.mark.parametrize("what", BAD)
def test_no_other_bytes_are_decoded(what: str) -> None:
    with pytest.raises(ProtocolError, match=r"^the model cannot be decoded: "):
        decode("the model", Array("float32", SHAPE, "numpy.ndarray", BAD[what]), "float32", SHAPE)


def test_the_good_header_of_these_tests_is_good() -> None:
    found = decode("a", Array("float32", SHAPE, "numpy.ndarray", _npy(_header())), "float32", SHAPE)
    assert found.shape == SHAPE


def test_another_serialization_is_refused() -> None:
    with pytest.raises(ProtocolError, match="cannot be decoded"):
        decode("a", Array("float32", SHAPE, "pickle", GOOD.data), "float32", SHAPE)


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float64", SHAPE), ("float32", (3, 2)), ("f" * 10**6, SHAPE)]
)
def test_what_was_announced_must_be_what_is_expected(dtype: str, shape: tuple[int, ...]) -> None:
    array = Array(dtype, shape, "numpy.ndarray", GOOD.data)
    with pytest.raises(ProtocolError, match=r"^a must be float32 \(2, 3\), got .{1,80}$"):
        decode("a", array, "float32", SHAPE)


def test_more_bytes_than_the_values_need_are_not_looked_at() -> None:
    most = 24 + MOST_HEADER
    array = Array("float32", SHAPE, "numpy.ndarray", GOOD.data + bytes(10**6))
    with pytest.raises(ProtocolError, match=f"must have at most {most} bytes .* got 1000152"):
        decode("a", array, "float32", SHAPE)
