"""What ``regl doctor --superlink`` says of the way there, with real servers on free ports."""

from __future__ import annotations

import email.utils
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
from cryptography import x509

from regl_app.cli.doctor import controls
from regl_app.cli.doctor import superlink as doctor_link
from regl_app.cli.doctor.finding import Finding
from regl_app.cli.doctor.link import Link
from regl_app.cli.doctor.superlink import examine_link
from regl_app.core.errors import ConfigError
from regl_app.flower.deployment.credentials import Credentials, make_credentials
from regl_app.flower.deployment.gate import GREETING

Issue = Callable[..., x509.Certificate]


@pytest.fixture
def keys(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path / "keys", ["localhost", "127.0.0.1"], [])[0]


@contextmanager
def superlink(
    keys: Credentials | None = None,
    *,
    ahead: float = 0.0,
    flwr: str = "",
    healthy: bool = True,
    says: str = "",
    node_call: int = 401,
    control: int = 403,
    kind: str = "application/protobuf",
) -> Iterator[int]:
    """Serve what a SuperLink or its gate tells anybody, with or without TLS; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b""
            if self.path == "/openapi.json" and flwr:
                body = json.dumps({"info": {"version": flwr}}).encode()
            known = self.path == "/health" and healthy
            if known:
                body = says.encode()
            self._answer(200 if known or body else 404, body)

        def do_POST(self) -> None:
            self._answer(control if self.path.startswith("/v1/control/") else node_call, b"", kind)

        def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("Date", email.utils.formatdate(time.time() + ahead, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that refuses the certificate hangs up

    server = Server(("127.0.0.1", 0), Handler)
    if keys is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys.server, keys.server_key)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def found(link: Link) -> dict[str, Finding]:
    return {finding.topic: finding for finding in examine_link(link)}


def test_a_sound_way_is_said_to_be(keys: Credentials) -> None:
    with superlink(keys, flwr=version("flwr")) as port:
        findings = found(Link("localhost", port, keys.ca))
    assert {finding.status for finding in findings.values()} == {"ok"}
    assert set(findings) == {
        *("SuperLink", "certificate", "health", "clock", "versions", "controls")
    }
    assert "824 days" in findings["certificate"].detail


def test_a_name_that_nobody_knows() -> None:
    (finding,) = examine_link(Link("no-such-host.invalid", 8000))
    assert finding.status == "fail" and "'no-such-host.invalid' is not known" in finding.detail


def test_a_port_on_which_nothing_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        (finding,) = examine_link(Link("127.0.0.1", probe.getsockname()[1]))
    assert finding.status == "fail" and "refuses: nothing listens" in finding.detail


def test_a_port_that_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(doctor_link.socket, "create_connection", late)
    (finding,) = examine_link(Link("127.0.0.1", 8000))
    assert finding.status == "fail" and "does not answer within" in finding.detail
    assert "firewall" in finding.remedy


@pytest.mark.parametrize(
    ("days", "hosts", "says"),
    [
        ((-30, -3), ["127.0.0.1"], "expired on"),
        ((3, 30), ["127.0.0.1"], "not valid before"),
        ((-1, 90), ["other.example"], "it is for other.example, not for '127.0.0.1'"),
    ],
)
def test_a_certificate_that_does_not_hold_here(
    days: tuple[int, int], hosts: list[str], says: str, keys: Credentials, issue: Issue
) -> None:
    issue(keys, days=days, hosts=hosts)
    with superlink(keys) as port:
        finding = found(Link("127.0.0.1", port, keys.ca))["certificate"]
    assert finding.status == "fail" and says in finding.detail and finding.remedy


def test_a_certificate_for_another_name(keys: Credentials, issue: Issue) -> None:
    issue(keys, days=(-1, 90), hosts=["fl.example.org"])
    with superlink(keys) as port:
        finding = found(Link("localhost", port, keys.ca))["certificate"]
    assert "it is for fl.example.org, not for 'localhost'" in finding.detail


def test_a_certificate_of_an_unknown_authority(keys: Credentials, tmp_path: Path) -> None:
    other, _ = make_credentials(tmp_path / "other", ["localhost"], [])
    with superlink(keys) as port:
        wrong = found(Link("127.0.0.1", port, other.ca))["certificate"]
        without = found(Link("127.0.0.1", port))["certificate"]
        unreadable = found(Link("127.0.0.1", port, tmp_path / "none.crt"))["certificate"]
    assert wrong.status == "fail" and f"refused by {other.ca}" in wrong.detail
    assert "refused by this system's authorities" in without.detail
    assert "--root-certificates" in without.remedy
    assert "none.crt cannot be read" in unreadable.detail


def test_tls_where_there_is_none_and_the_other_way_round(keys: Credentials) -> None:
    with superlink() as port:
        plain = found(Link("127.0.0.1", port, keys.ca))
        sound = found(Link("127.0.0.1", port, insecure=True))
    assert "speaks plain HTTP, not TLS" in plain["certificate"].detail
    assert sound["health"].status == "ok"
    with superlink(keys) as port:
        secured = found(Link("127.0.0.1", port, insecure=True))
    assert "speaks TLS, not plain HTTP" in secured["health"].detail


@pytest.mark.parametrize(
    ("ahead", "status", "says"),
    [
        (0, "ok", "ahead and 305 s behind"),
        (-4, "note", "ahead of"),  # the server's clock is behind: this machine's is ahead
        (-30, "fail", "30 s ahead of"),
        (200, "note", "200 s behind"),
        (400, "fail", "400 s behind"),
    ],
)
def test_clocks_are_compared_by_what_flower_tolerates(ahead: float, status: str, says: str) -> None:
    with superlink(ahead=ahead) as port:
        finding = found(Link("127.0.0.1", port, insecure=True))["clock"]
    assert finding.status == status and says in finding.detail


@pytest.mark.parametrize(
    ("flwr", "status", "says"),
    [
        (version("flwr"), "ok", "at the SuperLink"),
        ("1.2.3", "fail", "1.2.3 at the SuperLink: major.minor must be the same"),
        ("", "note", "does not tell its own"),
    ],
)
def test_versions_are_compared(flwr: str, status: str, says: str) -> None:
    with superlink(flwr=flwr) as port:
        finding = found(Link("127.0.0.1", port, insecure=True))["versions"]
    assert finding.status == status and says in finding.detail


def test_another_service_is_told_from_a_superlink() -> None:
    with superlink(healthy=False) as port:
        finding = found(Link("127.0.0.1", port, insecure=True))["health"]
    assert finding.status == "fail" and "answers 404: no SuperLink" in finding.detail


@pytest.mark.parametrize(
    ("node_call", "status", "says"),
    [
        (401, "ok", "a SuperLink answers behind it"),
        (502, "fail", "the SuperLink behind it does not answer (502)"),
    ],
)
def test_a_gate_is_told_from_the_superlink_behind_it(
    node_call: int, status: str, says: str, keys: Credentials
) -> None:
    with superlink(keys, says=f"{GREETING}\n", node_call=node_call) as port:
        findings = found(Link("127.0.0.1", port, keys.ca))
    assert findings["health"].status == status and says in findings["health"].detail
    assert findings["controls"].status == "ok" and findings["versions"].status == "note"


@pytest.mark.parametrize(("local", "status"), [(False, "fail"), (True, "note")])
@pytest.mark.parametrize("behind", [False, True])
def test_open_controls_are_told_loudly_but_on_the_operators_own_machine(
    local: bool, status: str, behind: bool, keys: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "on_this_machine", local)
    with superlink(keys) as gate, superlink(keys, control=200) as port:
        # Behind a gate that closes them, and yet reachable at their own port.
        monkeypatch.setattr(controls, "CONTROL_PORT", port if behind else gate)
        finding = found(Link("127.0.0.1", gate if behind else port, keys.ca))["controls"]
    assert finding.status == status and f"127.0.0.1:{port}" in finding.detail
    assert ("code of his own on the server and on every site" in finding.detail) != local


def test_another_service_at_the_controls_port_is_no_alarm(
    keys: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "on_this_machine", False)
    with superlink(keys) as gate, superlink(keys, control=200, kind="text/html") as port:
        monkeypatch.setattr(controls, "CONTROL_PORT", port)
        assert found(Link("127.0.0.1", gate, keys.ca))["controls"].status == "ok"


def test_loopback_is_this_machine_and_a_name_of_the_network_is_not() -> None:
    assert Link("localhost", 1).on_this_machine and Link("127.0.0.1", 1).on_this_machine
    assert not Link("192.0.2.1", 1).on_this_machine
    assert not Link("no-such-host.invalid", 1).on_this_machine


@pytest.mark.parametrize("address", ["fl.example.org", "host:", ":8000", "host:70000", "host:x"])
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="must be HOST:PORT"):
        Link.parse(address, None, False)


def test_certificates_contradict_plain_http(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        Link.parse("host:1", tmp_path, True)
