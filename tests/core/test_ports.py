"""Ports for servers: free, and not of those that outgoing connections are given."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from regl_app.core import ports


def given_out(told: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have the system say ``told`` of the ports that outgoing connections are given."""
    (folder / "range").write_text(told)
    patch.setattr(ports, "_GIVEN_OUT", folder / "range")


def test_a_port_is_free_and_below_those_that_are_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_out("10004\t60999\n", tmp_path, monkeypatch)
    found = {ports.free_port() for _ in range(40)}
    assert found <= set(range(10_000, 10_004))
    with socket.socket() as taken:
        taken.bind(("", found.pop()))
        assert taken.getsockname()[1] not in {ports.free_port() for _ in range(40)}


def test_where_none_below_them_is_free_one_of_them_has_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_out("10001\t60999\n", tmp_path, monkeypatch)
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # somebody else's
            taken.bind(("", 10_000))
        assert ports.free_port() > 10_000


def test_where_nearly_all_are_given_out_any_has_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_out("1024\t65535\n", tmp_path, monkeypatch)
    assert 10_000 <= ports.free_port() <= 65_535
    monkeypatch.setattr(ports, "_GIVEN_OUT", tmp_path / "absent")
    assert 10_000 <= ports.free_port() < 32_768
