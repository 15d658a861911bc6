"""Certificates and keys: what they are good for, and that none is ever replaced."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from regl_app.core.errors import ConfigError, ReglError
from regl_app.flower.deployment.credentials import make_credentials


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_certificate_is_valid_for_every_host_and_no_other(tmp_path: Path) -> None:
    made, new = make_credentials(tmp_path / "keys", ["fl.example.org", "10.0.0.5", "::1"], ["a"])
    assert {path.name for path in new} == {
        *("ca.key", "ca.crt", "superlink.key", "superlink.crt", "gate.conf", "a.key", "a.key.pub")
    }

    def verifies(*options: str) -> bool:
        command = ["openssl", "verify", "-CAfile", made.ca, "-purpose", "sslserver", *options]
        return not subprocess.run([*command, made.server], capture_output=True).returncode

    assert verifies("-verify_hostname", "fl.example.org") and verifies("-verify_ip", "10.0.0.5")
    # Not asked for, yet the SuperLink itself connects there for every run.
    assert verifies("-verify_ip", "127.0.0.1") and verifies("-verify_hostname", "localhost")
    assert verifies("-verify_ip", "::1") and not verifies("-verify_hostname", "evil.example.org")
    other, _ = make_credentials(tmp_path / "other", ["fl.example.org"], [])
    command = ["openssl", "verify", "-CAfile", other.ca, made.server]
    assert subprocess.run(command, capture_output=True).returncode


def test_private_keys_are_their_owners_alone_and_git_ignores_them(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    made, _ = make_credentials(tmp_path / "keys", ["localhost"], ["a", "b"])
    for key in (made.ca_key, made.server_key, made.node_key("a"), made.node_key("b")):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    status = ["git", "-C", tmp_path, "status", "--porcelain"]
    assert not subprocess.run(status, capture_output=True, check=True).stdout


def test_nodes_are_added_and_nothing_is_replaced(tmp_path: Path) -> None:
    make_credentials(tmp_path, ["localhost"], ["a"])
    before = content(tmp_path)
    made, new = make_credentials(tmp_path, [], ["a", "b"])
    assert new == [made.node_key("b"), Path(f"{made.node_key('b')}.pub")]
    assert before.items() <= content(tmp_path).items()
    assert made.node_key("b").read_bytes() != made.node_key("a").read_bytes()


@pytest.mark.parametrize(
    ("hosts", "nodes", "message"),
    [
        ([], ["a"], "--host is needed"),
        (["fl.example.org:8000"], [], "neither a host name nor an IP address"),
        (["localhost"], ["../a"], "a name is"),
    ],
)
def test_unfit_names_make_nothing(
    tmp_path: Path, hosts: list[str], nodes: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_credentials(tmp_path / "keys", hosts, nodes)
    assert not (tmp_path / "keys").exists()


def test_other_hosts_need_the_old_certificate_gone(tmp_path: Path) -> None:
    make_credentials(tmp_path, ["localhost"], [])
    with pytest.raises(ConfigError, match=r"superlink\.crt is there already"):
        make_credentials(tmp_path, ["other"], [])


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        ("ca.crt", "ca.key"),
        ("superlink.crt", "superlink.key"),
        ("nodes/a.key", "nodes/a.key.pub"),
    ],
)
def test_half_a_pair_is_not_replaced(tmp_path: Path, lost: str, left: str) -> None:
    make_credentials(tmp_path, ["localhost"], ["a"])
    (tmp_path / lost).unlink()
    before = content(tmp_path)
    hosts = ["localhost"] if lost == "superlink.crt" else []
    with pytest.raises(ConfigError, match=f"{left}.* is there, but not {lost}"):
        make_credentials(tmp_path, hosts, ["a"])
    assert content(tmp_path) == before


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReglError, match="'openssl' is not installed"):
        make_credentials(tmp_path / "keys", ["localhost"], [])
