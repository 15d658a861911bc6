"""A deployment on loopback as docs/deploy.md describes it: a gate, TLS, registered keys."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core import ports
from regl_app.core.files import write_text
from regl_app.core.processes import descendants, end_processes
from regl_app.core.types import Scalar
from regl_app.data.export import export_clients
from regl_app.data.federation import Federation
from regl_app.flower.deployment.credentials import Credentials, make_credentials
from regl_app.flower.deployment.gate import Gate, gate_configuration

APP = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


_given: set[int] = set()


def free_port() -> int:
    """Return a free port that was not returned before: some are bound later, or a second time."""
    while (port := ports.free_port()) in _given:
        pass
    _given.add(port)
    return port


def node_config(values: Mapping[str, Scalar]) -> str:
    """Return values in the form of ``--node-config`` and ``-c``."""

    def text(value: Scalar) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return f"'{value}'" if isinstance(value, str) else str(value)

    return " ".join(f"{key}={text(value)}" for key, value in values.items())


_REGISTER = """
import sys
from flwr.cli.app import app
for key in sys.argv[1:]:
    if app(["supernode", "register", key, "site"], standalone_mode=False):
        sys.exit(f"not registered: {key}")
"""


@dataclass(frozen=True)
class Worker:
    """A node's process that carries out messages, by its pid."""

    pid: int

    def until_it_computed(self, seconds: float = 0.2) -> None:
        """Wait until it has had a processor for so long, from now on: it is amid something."""
        deadline, enough = time.monotonic() + 120, self._computed() + seconds
        while self._computed() < enough:
            assert time.monotonic() < deadline, f"process {self.pid} does nothing"
            time.sleep(0.01)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Stop it for the length of the block: what it is at does not end meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            while self._stat()[0] != "T":
                time.sleep(0.01)
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _computed(self) -> float:
        user, system = self._stat()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _stat(self) -> list[str]:
        """Return its state and what follows in proc(5)'s stat, fields 3 and up."""
        return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()


@dataclass
class Deployment:
    """A SuperLink behind its gate, its SuperNodes, and the operator's ``flwr`` command.

    ``port`` is the public one, the gate's, at ``address``; ``control_port`` the SuperLink's own.
    Where ``server`` names a network namespace, all of the server's is in there, and each site in
    that of ``sites``.
    """

    folder: Path
    keys: Credentials
    port: int = field(default_factory=free_port)
    control_port: int = field(default_factory=free_port)
    free_port = staticmethod(free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    orphans: dict[int, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    server: str = ""
    sites: Mapping[str, str] = field(default_factory=dict)

    def at(self, name: str) -> tuple[str, ...]:
        """Return the beginning of a command that is to run where process ``name`` belongs."""
        host = self.sites.get(name, self.server)
        return ("ip", "netns", "exec", host) if host else ()

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FLWR_HOME": str(self.folder / "flwr"),
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            # More often, asking costs several federations at once more than it gains.
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.6",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                # An absolute path stays as it is.
                [*self.at(name), str(BIN / command[0]), *command[1:]],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start_superlink(self) -> None:
        keys = self.keys
        self.start(
            "superlink", "flower-superlink",
            "--host", "127.0.0.1", "--port", str(self.control_port),
            "--ssl-ca-certfile", str(keys.ca), "--ssl-certfile", str(keys.server),
            "--ssl-keyfile", str(keys.server_key), "--enable-supernode-auth",
            "--database", str(self.folder / "superlink.db"),
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        self._wait_for("superlink", self.control_port)

    def start_gate(
        self, name: str = "gate", port: int | None = None, keys: Credentials | None = None
    ) -> None:
        """Start nginx before the SuperLink, its workers as whoever runs the tests."""
        port, keys = port or self.port, keys or self.keys
        superlink = f"127.0.0.1:{self.control_port}"
        write_text(keys.gate, gate_configuration(Gate(port, superlink)))
        run = self.folder / f"run-{name}"
        run.mkdir(exist_ok=True)
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert nginx is not None
        self.start(
            name, nginx, "-p", str(run), "-e", "stderr", "-c", str(keys.gate),
            "-g", "daemon off;" + (" user root;" if os.geteuid() == 0 else ""),
        )  # fmt: skip
        self._wait_for(name, port)

    def _wait_for(self, name: str, port: int) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.reaches(name, "127.0.0.1", port):
                return
            assert self.processes[name].poll() is None, self.log(name)
            time.sleep(0.2)
        raise AssertionError(f"no {name}: {self.log(name)}")

    def reaches(self, name: str, address: str, port: int) -> bool:
        """Return whether process ``name`` could connect there."""
        connect = f"import socket; socket.create_connection(({address!r}, {port}), 3)"
        if not self.at(name):
            with socket.socket() as probe:
                return probe.connect_ex((address, port)) == 0
        tried = [*self.at(name), sys.executable, "-S", "-c", connect]
        return not subprocess.run(tried, capture_output=True).returncode

    def register(self, *names: str) -> None:
        """Register nodes by Flower's own command, in one process for all of them."""
        keys = [f"{self.keys.node_key(name)}.pub" for name in names]
        self._command(sys.executable, "-c", _REGISTER, *keys)

    def state(self, name: str) -> Path:
        """Return the folder in which a site keeps adapters, images and its last model."""
        return self.folder / "state" / name

    def nodes_away(self) -> list[str]:
        """Return the ids of SuperNodes that signed off."""
        listed = self.flwr("supernode", "list", "site", "--format", "json")
        nodes = json.loads(listed[listed.index("{") :])["nodes"]
        return [str(node["node-id"]) for node in nodes if node["status"] == "offline"]

    def start_site(
        self, index: int, folders: Sequence[Path], name: str, key: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start the node of one of several sites, each with its own image folder."""
        return self.start_node(
            name,
            key=key,
            partition_id=index,
            num_partitions=len(folders),
            name=name,
            data_dir=str(folders[index]),
            data_root=str(folders[index]),
            state_dir=str(self.state(name)),
        )

    def worker(self, name: str) -> Worker:
        """Return the process that carries out a node's messages; it has to be there."""
        executors = descendants(self.processes[name].pid)
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                # Its own parent is the message that found none; it is told whose it is.
                if "client_app.worker.server" in words and int(words[5]) in executors:
                    return Worker(int(entry.name))
        raise AssertionError(f"no worker of {name}: {self.log(name)}")

    def kill(self, name: str) -> dict[int, str]:
        """Kill a SuperNode by its pid; return its other processes, which have to end themselves."""
        process = self.processes.pop(name)
        orphans = descendants(process.pid)
        self.orphans |= orphans
        process.kill()
        process.wait()
        return orphans

    def end(self, name: str) -> None:
        """End a SuperNode in order, so that it signs off."""
        process = self.processes.pop(name)
        self.orphans |= descendants(process.pid)
        process.terminate()
        process.wait(timeout=60)

    def start_node(
        self, name: str, /, *, key: str = "", port: int | None = None, **values: Scalar
    ) -> subprocess.Popen[bytes]:
        return self.start(
            name, "regl-supernode", "--root-certificates", str(self.keys.ca),
            "--auth-supernode-private-key", str(self.keys.node_key(key or name)),
            "--superlink", f"{self.address}:{port or self.port}", "--port", str(free_port()),
            "--node-config", node_config({k.replace("_", "-"): v for k, v in values.items()}),
        )  # fmt: skip

    def flwr(self, *arguments: str) -> str:
        return self._command(str(BIN / "flwr"), *arguments)

    def _command(self, *command: str) -> str:
        done = subprocess.run(
            [*self.at("operator"), *command],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def run(self, **settings: Scalar) -> str:
        """Submit the app, follow it to its end and return its log."""
        return self.flwr("run", str(APP), "site", "--stream", "-c", node_config(settings))

    def submit(self, **settings: Scalar) -> subprocess.Popen[bytes]:
        """Submit the app and return the process that follows it."""
        return self.start(
            "run", "flwr", "run", str(APP), "site", "--stream", "-c", node_config(settings)
        )

    def tell(self, lines: int = 60) -> None:
        """Print how each log ends; pytest shows it of a test that failed."""
        for path in sorted(self.folder.glob("*.log")):
            end = path.read_text(errors="replace").splitlines()[-lines:]
            print(f"--- {path.name}", *end, sep="\n")

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            children = descendants(process.pid)
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            end_processes(children)
        end_processes(self.orphans)


def _deployments(folder: Path) -> Iterator[Callable[..., Deployment]]:
    if shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        pytest.skip("THE DEPLOYMENT WAS NOT RUN: no nginx on this machine, which is its gate")
    started: list[Deployment] = []

    def start(
        *nodes: str, address: str = "127.0.0.1", server: str = "", sites: Mapping[str, str] = {}
    ) -> Deployment:
        keys, _ = make_credentials(folder / "keys", ["localhost", address], nodes)
        deployment = Deployment(folder, keys, address=address, server=server, sites=sites)
        started.append(deployment)
        home = folder / "flwr"
        home.mkdir()
        ports = {"site": deployment.control_port, "public": deployment.port}
        connections = [
            f'[superlink.{name}]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{keys.ca}"\n'
            for name, port in ports.items()
        ]
        (home / "config.toml").write_text(
            "\n".join(['[superlink]\ndefault = "site"\n', *connections])
        )
        deployment.start_superlink()
        deployment.start_gate()
        return deployment

    yield start
    for deployment in started:
        deployment.tell()
        deployment.stop()


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Return what starts a SuperLink with keys for the named nodes, for the length of a test."""
    yield from _deployments(tmp_path)


@pytest.fixture(scope="module")
def deploy_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Deployment]]:
    """Likewise, for the length of a module's tests."""
    yield from _deployments(tmp_path_factory.mktemp("deployment"))


@pytest.fixture(scope="session")
def site_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return four sites' image folders: skewed parts of the digits."""
    out = tmp_path_factory.mktemp("folders") / "sites"
    config = RunConfig.from_flat(
        {"data.max-train": 240, "data.image-size": 16, "partition.beta": 0.3}
    )
    export_clients(Federation.load(config, 4), out)
    return sorted(out.iterdir())


@pytest.fixture(scope="session")
def site_settings(small_settings: dict[str, Scalar]) -> dict[str, Scalar]:
    """Return keys of a short run over these folders."""
    return {
        **small_settings,
        "data.source": "site",
        "data.classes": "0,1,2,3,4,5,6,7,8,9",
        "data.channels": 1,
    }
