"""The public port of a federation: nodes pass, whoever else comes is refused, and a run goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from regl_app.core.errors import RunError
from regl_app.core.types import Scalar
from regl_app.flower.deployment.credentials import make_credentials
from regl_app.flower.deployment.gate import MAX_BODY
from regl_app.flower.engines.command import FlowerCommand
from regl_app.runs.folder import RunFolder

Deploy = Callable[..., Any]  # the fixture's Deployment
HOSTS = ["localhost", "127.0.0.1"]

pytestmark = pytest.mark.timeout(1800)

CONTROLS = (
    "start-run", "register-node", "unregister-node", "list-nodes", "list-runs", "stop-run",
    "stream-logs", "pull-artifacts", "add-app", "start-automation", "create-invitation",
)  # fmt: skip
RUNTIME = ("acquire-task", "pull-task-input", "push-messages", "get-nodes", "responses")
OTHERS = (
    "/", "/docs", "/openapi.json", "/v1/fleet", "/v1/fleet/", "/v1/fleet/register-node",
    "/v1/fleet/unregister-node", "/v1/fleet/get-run/", "/V1/FLEET/get-run",
    # Ways around: what they mean must not depend on who reads them.
    "//v1/control/list-runs", "/v1/fleet/../control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs", "/v1/fleet/get-run/../../control/list-runs",
    "/v1/fleet/get-run%2f..%2f..%2fcontrol%2flist-runs",
    "/v1/fleet/get-run;/../../control/list-runs", "/v1/control/list-runs?/v1/fleet/get-run",
    "/v1/control/list-runs%3f/v1/fleet/get-run", "/v1/control/list-runs#/v1/fleet/get-run",
)  # fmt: skip
FORBIDDEN = (
    *(f"/v1/control/{call}" for call in CONTROLS),
    *(f"/v1/runtime/{call}" for call in RUNTIME),
    *OTHERS,
)


@dataclass(frozen=True)
class Stranger:
    """Somebody who reaches ``port``, with what he holds."""

    port: int
    ca: Path | None = None
    key: Path | None = None
    """The private key of a node, by which he signs as that node would."""
    host: str = "127.0.0.1"
    context: ssl.SSLContext | None = None

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/protobuf", "accept": "application/protobuf"}
        return headers | (signed_by(self.key) if self.key else {})

    def post(self, path: str, body: bytes = b"") -> int:
        """Return the status of a POST, its path sent as it is written."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self._headers().items())
        request = (
            f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n{head}"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        with self.connect() as connection:
            connection.sendall(request.encode() + body)
            answer = connection.makefile("rb").readline()
        return int(answer.split()[1])

    def answer(self, method: str, path: str, **arguments: object) -> httpx.Response:
        """Return the answer to an ordinary request."""
        verify = self.context or (ssl.create_default_context(cafile=self.ca) if self.ca else True)
        scheme = "https" if self.ca or self.context else "http"
        url = f"{scheme}://{self.host}:{self.port}{path}"
        with httpx.Client(verify=verify, trust_env=False, timeout=60) as client:
            return client.request(method, url, headers=self._headers(), **arguments)  # type: ignore[arg-type]

    def connect(self) -> socket.socket:
        """Return a connection, through TLS where there is an authority to check it by."""
        plain = socket.create_connection((self.host, self.port), timeout=60)
        if self.ca is None and self.context is None:
            return plain
        context = self.context or ssl.create_default_context(cafile=self.ca)
        return context.wrap_socket(plain, server_hostname=self.host)


def signed_by(key: Path) -> Mapping[str, str]:
    """Return the headers that make a request that of the node whose private key this is."""
    from flwr.common.constant import TIMESTAMP_HEADER
    from flwr.supercore.constant import (
        FLEET_HTTP_PUBLIC_KEY_HEADER,
        FLEET_HTTP_SIGNATURE_HEADER,
    )
    from flwr.supercore.date import now
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

    private = load_ssh_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    moment = now().isoformat()
    signature = sign_message(private, moment.encode("ascii"))
    return {
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_key_to_bytes(private.public_key())).decode(),
        TIMESTAMP_HEADER: moment,
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode(),
    }


def seconds_until_closed(connection: socket.socket, limit: float = 60) -> float:
    """Return how long the other side keeps a connection on which nothing is sent."""
    started = time.monotonic()
    connection.settimeout(limit)
    with contextlib.suppress(OSError):
        connection.recv(1)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def idle(deploy_module: Deploy) -> Any:
    """Return a federation without a run, with a registered node ``a`` that is not started."""
    deployment = deploy_module("a", "own")
    deployment.register("a")
    # The SuperLink's own process says that it starts some time after the port answers.
    deadline = time.monotonic() + 60
    while "Starting Flower SuperExec" not in deployment.log("superlink"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return deployment


def strangers(deployment: Any) -> dict[str, Stranger]:
    return {
        "with ca.crt": Stranger(deployment.port, deployment.keys.ca),
        "with a registered node's key": Stranger(
            deployment.port, deployment.keys.ca, deployment.keys.node_key("a")
        ),
        "without TLS": Stranger(deployment.port),
    }


@pytest.mark.parametrize("who", ["with ca.crt", "with a registered node's key", "without TLS"])
def test_who_is_no_operator_reaches_no_control_and_flower_hears_nothing(
    idle: Any, who: str
) -> None:
    stranger, before = strangers(idle)[who], idle.log("superlink")
    refused = 400 if who == "without TLS" else 403
    assert {path: stranger.post(path) for path in FORBIDDEN} == dict.fromkeys(FORBIDDEN, refused)
    assert idle.log("superlink") == before
    if refused == 403:  # and the gate tells who it was
        for call in CONTROLS:
            assert f'"POST /v1/control/{call} HTTP/1.1"' in idle.log("gate")


def test_flowers_own_command_is_refused_at_the_public_port(idle: Any) -> None:
    before, key = idle.log("superlink"), f"{idle.keys.node_key('own')}.pub"
    for command in (
        ("supernode", "register", key, "public"),
        ("run", str(Path(__file__).parents[2]), "public"),
    ):
        with pytest.raises(AssertionError, match="403 Forbidden"):
            idle.flwr(*command)
    environment = {"FLWR_HOME": idle.environment["FLWR_HOME"]}
    with pytest.raises(RunError, match=r"'public' is a gate.*`ssh -N -L 8001:127.0.0.1:8001"):
        FlowerCommand("public", environment).ask("list", "public")
    assert idle.log("superlink") == before


def test_a_nodes_calls_need_its_key(idle: Any) -> None:
    before = idle.log("superlink")
    assert strangers(idle)["with ca.crt"].post("/v1/fleet/get-fab") == 401
    assert '"POST /v1/fleet/get-fab HTTP/1.1" 401' in idle.log("superlink")[len(before) :]
    answer = strangers(idle)["with ca.crt"].answer("GET", "/v1/fleet/get-fab")
    assert answer.status_code == 403


def test_a_body_over_the_limit_is_refused_and_flower_hears_nothing(idle: Any) -> None:
    before = idle.log("superlink")
    node = strangers(idle)["with a registered node's key"]
    assert node.post("/v1/fleet/push-object", bytes(MAX_BODY + 1)) == 413
    assert idle.log("superlink") == before
    assert node.post("/v1/fleet/push-object", bytes(MAX_BODY)) not in (403, 413)


def test_an_old_tls_is_refused(idle: Any) -> None:
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises(ssl.SSLError, match="alert protocol version"):  # said by the gate
            old_tls(strangers(idle)["with ca.crt"], version)
    with Stranger(idle.port, idle.keys.ca).connect() as connection:
        assert isinstance(connection, ssl.SSLSocket) and connection.version() == "TLSv1.3"


def old_tls(stranger: Stranger, version: ssl.TLSVersion) -> None:
    """Connect by an old version of TLS alone."""
    context = ssl.create_default_context(cafile=stranger.ca)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    Stranger(stranger.port, context=context).connect()


def test_many_requests_at_once_of_one_address_are_put_off_not_ended(idle: Any) -> None:
    """503 is what a node takes for 'later'."""
    node = Stranger(idle.port, idle.keys.ca)
    with contextlib.ExitStack() as held:
        for _ in range(64):
            held.enter_context(stalled(node))
        deadline = time.monotonic() + 60
        while (status := node.post("/v1/fleet/get-run")) != 503 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert status == 503
    deadline = time.monotonic() + 60
    while (status := node.post("/v1/fleet/get-run")) != 401 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status == 401


@contextlib.contextmanager
def stalled(who: Stranger) -> Iterator[socket.socket]:
    """Hold a request whose body does not come."""
    with who.connect() as connection:
        connection.sendall(
            b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: gate\r\ncontent-length: 4000000\r\n\r\n0"
        )
        yield connection


@pytest.mark.parametrize("fault", ["expired", "foreign"])
def test_a_node_does_not_talk_to_a_gate_whose_certificate_is(
    idle: Any, fault: str, issue: Callable[..., Any], tmp_path: Path
) -> None:
    keys = idle.keys
    if fault == "foreign":
        false, _ = make_credentials(tmp_path / "false", HOSTS, [])
    else:
        shutil.copytree(keys.folder, tmp_path / "false")
        false = type(keys)(tmp_path / "false")
        issue(false, days=(-20, -1), hosts=HOSTS)
    port = idle.free_port()
    idle.start_gate(f"gate-{fault}", port, false)
    node = idle.start_node("a", port=port, partition_id=0, num_partitions=2)
    assert node.wait(timeout=120) != 0
    assert "certificate" in idle.log("a").lower()
    # Nor does a gate talk to a SuperLink of another authority.
    if fault == "foreign":
        assert Stranger(port, false.ca).post("/v1/fleet/get-run") == 502


def test_a_run_goes_on_under_attack_and_while_keys_and_certificates_are_renewed(
    deploy: Deploy, site_settings: dict[str, Scalar], site_folders: list[Path]
) -> None:
    deployment = deploy("a", "b", "b-renewed")
    sites, keys, out = site_folders[:2], deployment.keys, deployment.folder / "runs"
    deployment.register("a", "b")
    for index, name in enumerate(("a", "b")):
        deployment.start_site(index, sites, name)
    running = deployment.submit(
        **site_settings
        | {
            "method": "fedrep",  # a part of the model stays at each site
            "rounds": 4,
            "server.min-nodes": 2,
            "server.timeout": 300.0,
            "out-dir": str(out),
        }
    )

    def renew_key() -> None:
        deployment.end("b")
        deployment.start_site(1, sites, "b", key="b-renewed")
        (old,) = deployment.nodes_away()
        deployment.flwr("supernode", "unregister", old, "site")

    def wait_for_round(number: int) -> None:
        deadline = time.monotonic() + 400
        while len(list(out.glob("*/history.jsonl"))) == 0 or len(the_run().read_history()) < number:
            assert running.poll() is None and time.monotonic() < deadline, deployment.log("run")
            time.sleep(0.05)

    def the_run() -> RunFolder:
        return RunFolder.open(next(out.glob("*/history.jsonl")).parent)

    # While the run comes up: the command takes seconds, and a later round would be hit.
    deployment.register("b-renewed")
    wait_for_round(1)
    with ThreadPoolExecutor(1) as pool:
        attack = pool.submit(attacked, Stranger(deployment.port, keys.ca))
        before = certificate(deployment)
        keys.server.unlink()
        keys.server_key.unlink()
        make_credentials(keys.folder, HOSTS, [])
        deployment.processes["gate"].send_signal(signal.SIGHUP)
        wait_for_round(2)
        assert certificate(deployment) != before
        # A site's key: the new one is let in, the old one no longer.
        renew_key()
        idle_seconds, slow_seconds = attack.result()
    assert max(idle_seconds) < 20  # 10 s for a request's head
    assert slow_seconds < 45  # 30 s between two pieces of a body
    assert running.wait(timeout=600) == 0
    result, history = the_run().read_result(), the_run().read_history()
    assert result is not None and result.status == "finished", deployment.log("run")
    assert the_run().report.is_file()
    missed = [record.round for record in history if record.failures]
    assert len(history) == 4 and missed in ([], [3]), [record.failures for record in history]
    assert list(history[-1].clients) == [0, 1]
    for name in ("a", "b"):
        assert list(deployment.state(name).glob("state/*/*/round-0004.safetensors"))
    old = Stranger(deployment.port, keys.ca, keys.node_key("b"))
    assert old.post("/v1/fleet/activate-node") == 401


def attacked(stranger: Stranger) -> tuple[list[float], float]:
    """Hold 200 idle connections and a stalled one; return the seconds until each was closed."""
    connections = [stranger.connect() for _ in range(200)]
    assert {stranger.post(path) for path in FORBIDDEN} == {403}
    assert stranger.post("/v1/fleet/push-object", bytes(MAX_BODY + 1)) == 413
    with pytest.raises(ssl.SSLError, match="alert protocol version"):
        old_tls(stranger, ssl.TLSVersion.TLSv1_1)
    with stalled(stranger) as slow, ThreadPoolExecutor(200) as pool:
        idle = list(pool.map(seconds_until_closed, connections))
        waited = seconds_until_closed(slow)
    for connection in connections:
        connection.close()
    return idle, max(idle) + waited


def certificate(deployment: Any) -> bytes | None:
    with Stranger(deployment.port, deployment.keys.ca).connect() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        return connection.getpeercert(binary_form=True)
