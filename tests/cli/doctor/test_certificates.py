"""What ``regl doctor --keys`` says of certificates and keys."""

from __future__ import annotations

import datetime
import grp
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from regl_app.cli.doctor.certificates import examine_keys, examine_private_key
from regl_app.cli.doctor.finding import Finding
from regl_app.flower.deployment.credentials import Credentials, make_credentials

Issue = Callable[..., x509.Certificate]


@pytest.fixture
def keys(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path / "keys", ["localhost", "127.0.0.1"], ["clinic-a"])[0]


def found(keys: Credentials) -> dict[str, Finding]:
    """Return the findings by topic; of several the worst."""
    order = ("ok", "note", "fail")
    worst: dict[str, Finding] = {}
    for finding in examine_keys(keys.folder):
        before = worst.get(finding.topic)
        if before is None or order.index(finding.status) > order.index(before.status):
            worst[finding.topic] = finding
    return worst


def test_what_regl_keys_makes_is_sound(keys: Credentials) -> None:
    findings = found(keys)
    assert {finding.status for finding in findings.values()} == {"ok"}
    assert set(findings) == {
        "ca.crt",
        "superlink.crt",
        "ca.key",
        "superlink.key",
        "nodes/clinic-a.key",
    }
    assert "824 days; for localhost, 127.0.0.1" in findings["superlink.crt"].detail


def test_no_finding_holds_a_key(keys: Credentials) -> None:
    text = "".join(f"{each.detail}{each.remedy}" for each in examine_keys(keys.folder))
    for path in (keys.ca_key, keys.server_key, keys.node_key("clinic-a")):
        secret = [line for line in path.read_text().splitlines() if not line.startswith("---")]
        assert secret and not any(line in text for line in secret)


def test_an_expired_certificate_and_one_that_soon_will_be(keys: Credentials, issue: Issue) -> None:
    issue(keys, days=(-30, -3))
    finding = found(keys)["superlink.crt"]
    assert finding.status == "fail" and "expired on" in finding.detail
    assert "3 days ago" in finding.detail and finding.remedy
    issue(keys, days=(-30, 20))
    finding = found(keys)["superlink.crt"]
    assert finding.status == "note" and ", 19 days" in finding.detail


def test_a_certificate_that_is_not_yet_valid(keys: Credentials, issue: Issue) -> None:
    issue(keys, days=(2, 20))
    finding = found(keys)["superlink.crt"]
    assert finding.status == "fail" and "not valid before" in finding.detail
    assert "clock" in finding.remedy


def test_a_certificate_of_another_authority(keys: Credentials, tmp_path: Path) -> None:
    other, _ = make_credentials(tmp_path / "other", ["localhost"], [])
    keys.server.write_bytes(other.server.read_bytes())
    findings = found(keys)
    assert "was not signed by ca.crt" in findings["superlink.crt"].detail
    assert "does not belong to" in findings["superlink.key"].detail


def test_a_key_that_others_can_read(keys: Credentials) -> None:
    path = keys.node_key("clinic-a")
    for mode in (0o644, 0o660, 0o601):
        path.chmod(mode)
        finding = found(keys)["nodes/clinic-a.key"]
        assert finding.status == "fail", mode
        assert f"can be read by others (mode {mode:04o})" in finding.detail
        assert f"chmod 600 {path}" in finding.remedy


def test_a_key_that_its_group_can_read_is_a_note(keys: Credentials) -> None:
    """docs/deploy.md has root own a node's key, and the node's group read it."""
    path = keys.node_key("clinic-a")
    path.chmod(0o640)
    finding = found(keys)["nodes/clinic-a.key"]
    group = grp.getgrgid(path.stat().st_gid).gr_name
    assert finding.status == "note"
    assert f"can be read by all of the group {group!r}, fits" in finding.detail


def test_a_file_that_is_no_key_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "x.key"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    path.chmod(0o600)
    finding = examine_private_key("node key", path)
    assert finding.status == "fail" and "is no private key" in finding.detail
    assert "c2VjcmV0" not in finding.detail + finding.remedy


def test_absent_parts_are_named(tmp_path: Path, keys: Credentials) -> None:
    (finding,) = examine_keys(tmp_path / "none")
    assert finding.status == "fail" and "no folder" in finding.detail
    keys.ca.unlink()
    assert "ca.crt is absent" in found(keys)["ca.crt"].detail
    assert found(keys)["ca.key"].status == "note"


def test_days_are_counted_from_this_machines_clock(keys: Credentials, issue: Issue) -> None:
    certificate = issue(keys, days=(-1, 100))
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert f", {left.days} days" in found(keys)["superlink.crt"].detail
