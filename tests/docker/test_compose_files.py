"""The container files hold together, whether or not an engine is at hand to run them."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from regl_app.cli.options import resolve
from regl_app.flower.deployment.credentials import Credentials
from regl_app.flower.deployment.gate import Gate, gate_configuration
from regl_app.flower.deployment.task_guard import CLIENT, OTHERS

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
OVERLAYS = ("compose.tls.yaml", "compose.gpu.yaml", "compose.checkpoint.yaml")
NODES = ("clinic-a", "clinic-b", "clinic-c")
COMBINATIONS = [
    ("compose.yaml", *overlays)
    for size in range(len(OVERLAYS) + 1)
    for overlays in itertools.combinations(OVERLAYS, size)
]


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))
    return content


def all_services() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every service where it is defined, as opposed to where an overlay adds to it."""
    base = load("compose.yaml")["services"]
    yield from base.items()
    for overlay in OVERLAYS:
        for name, service in load(overlay)["services"].items():
            if name not in base:
                yield name, service


SERVICES = dict(all_services())


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode


@pytest.mark.parametrize("files", COMBINATIONS, ids="+".join)
def test_compose_accepts_every_combination_of_the_files(files: tuple[str, ...]) -> None:
    if not has_compose():
        pytest.skip("NOT CHECKED BY COMPOSE ITSELF: 'docker compose' is not installed here")
    options = [part for name in files for part in ("-f", str(DOCKER / name))]
    done = subprocess.run(
        ["docker", "compose", *options, "--profile", "*", "config", "-q"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_watched_and_without_privileges(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= limits.keys()
    asks = "curl" if name == "gate" else "python"
    assert service["healthcheck"]["test"][:2] == ["CMD", asks]
    assert service["user"] == "${REGL_UID:-10001}:${REGL_GID:-10001}"
    assert service["cap_drop"] == ["ALL"] and service["read_only"] and service["init"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and ("ports" in service) == (name == "gate")
    image = "${REGL_GATE_IMAGE:-nginx:1.28}" if name == "gate" else "${REGL_IMAGE:-regl-app}"
    assert service["image"] == image


def test_clinics_reach_the_gate_alone_and_nobody_outside_reaches_a_control() -> None:
    networks = load("compose.yaml")["networks"]
    assert [name for name, keys in networks.items() if not keys.get("internal")] == ["outside"]
    assert set(networks) == {"outside", "controls", *NODES}
    for name in ("controls", *NODES):
        # Nor does this machine have an address there.
        assert networks[name]["driver_opts"] == {"com.docker.network.bridge.inhibit_ipv4": "true"}
    on = {name: set(service["networks"]) for name, service in SERVICES.items()}
    for node in NODES:
        assert on[node] == {node}
        (address,) = [
            part
            for file in ("compose.yaml", "compose.tls.yaml")
            for part in set(load(file)["services"][node]["command"])
            if part.startswith("--superlink=")
        ][:1]
        assert address == "--superlink=gate:8000"
    assert on["gate"] == set(networks)
    assert [name for name in on if name not in (*NODES, "gate")] == [
        "superlink",
        "submit",
        "register",
    ]
    for name in ("superlink", "submit", "register"):
        assert on[name] == {"controls"}
    # On this machine alone, unless whoever starts it says otherwise.
    assert SERVICES["gate"]["ports"] == ["${REGL_LISTEN:-127.0.0.1:8000}:8000"]


@pytest.mark.parametrize(("folder", "tls"), [("gate", False), ("gate-tls", True)])
def test_the_gates_configuration_is_the_one_that_is_tried_without_containers(
    folder: str, tls: bool
) -> None:
    written = (DOCKER / folder / "gate.conf").read_text(encoding="utf-8")
    assert written == gate_configuration(Gate(8000, "superlink:8000", tls))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_change_services_that_exist(overlay: str) -> None:
    for name, service in load(overlay)["services"].items():
        assert name in load("compose.yaml")["services"] or "image" in service, name
        for needed in service.get("depends_on", {}):
            assert needed in SERVICES, f"{name} waits for {needed}"


def test_each_node_has_its_own_data_state_and_number() -> None:
    services = load("compose.yaml")["services"]
    data, state, numbers = set(), set(), []
    for name in NODES:
        (folder,) = [v for v in services[name]["volumes"] if isinstance(v, dict)]
        assert folder["read_only"] and folder["target"] == "/data"
        data.add(folder["source"])
        state |= {v for v in services[name]["volumes"] if isinstance(v, str)}
        (values,) = [part for part in services[name]["command"] if "partition-id" in part]
        assert f'name="{name}"' in values and f"num-partitions={len(NODES)}" in values
        numbers.append(int(re.findall(r"partition-id=(\d+)", values)[0]))
    assert len(data) == len(state) == len(NODES)
    assert numbers == list(range(len(NODES)))
    assert {v.split(":")[0] for v in state} < load("compose.yaml")["volumes"].keys()


def test_each_node_runs_the_images_own_app_alone() -> None:
    image = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    (guarded,) = re.findall(r"for name in ([a-z ]+);", image)
    assert {f"flwr-{name}" for name in guarded.split()} == {CLIENT, *OTHERS}
    assert "FLWR_HOME=/opt/regl/flwr" in image and "/opt/regl/bin/flwr-$name" in image
    for name in NODES:
        environment = SERVICES[name]["environment"]
        assert environment["FLWR_HOME"] == "/opt/regl/flwr"
        assert environment["PATH"].startswith("/opt/regl/bin:")
        for overlay in OVERLAYS:
            assert "environment" not in load(overlay)["services"].get(name, {})


def test_tls_leaves_nothing_in_the_open_and_gives_each_its_own_key_alone() -> None:
    services = load("compose.tls.yaml")["services"]
    keys = Credentials(Path("${REGL_KEYS:-./keys}"))
    for name in ("superlink", *NODES):
        assert "--insecure" not in services[name]["command"]
        test = " ".join(services[name]["healthcheck"]["test"])
        assert "https://" in test and "http://superlink" not in test
    assert "--enable-supernode-auth" in services["superlink"]["command"]
    own = {"superlink": keys.server_key, "gate": keys.server_key}
    own |= {node: keys.node_key(node) for node in NODES}
    for name, service in services.items():
        sources = {volume.split(":/")[0] for volume in service["volumes"]}
        private = {source for source in sources if source.endswith(".key")}
        assert private == ({str(own[name])} if name in own else set()), name


def test_each_node_gets_one_gpu() -> None:
    services = load("compose.gpu.yaml")["services"]
    assert set(services) == set(NODES)
    for service in services.values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
        assert len(device["device_ids"]) == 1


def test_a_checkpoint_lies_where_nodes_may_read() -> None:
    services = load("compose.checkpoint.yaml")["services"]
    assert set(services) == {*NODES, "superlink"}
    for service in services.values():
        (volume,) = service["volumes"]
        assert (volume["target"], volume["read_only"]) == ("/models/checkpoint", True)
    for compose in ("compose.yaml", "compose.tls.yaml"):
        for node in NODES:
            allowed = re.findall(
                r'data-root="(.*?)"', load(compose)["services"][node]["command"][-1]
            )
            assert allowed == ["/data:/models"], (compose, node)
    made = re.findall(r"mkdir (/models)", (DOCKER / "Dockerfile").read_text(encoding="utf-8"))
    assert made  # a folder that is allowed has to be there


def test_what_is_mounted_from_this_folder_is_here() -> None:
    files = 0
    for compose in ("compose.yaml", *OVERLAYS):
        for service in load(compose)["services"].values():
            for volume in service.get("volumes", []):
                if isinstance(volume, str) and volume.startswith("./"):
                    files += 1
                    assert (DOCKER / volume.split(":")[0]).is_file(), volume
    assert files


def test_the_image_copies_what_is_here_and_let_through() -> None:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    sources = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.MULTILINE):
        sources.update(line.split()[:-1])
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_is_small_in_rights_and_pinned() -> None:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)
    assert len(stages) > 1 and "latest" not in text
    last = text.rsplit("\nFROM ", 1)[1]
    assert re.findall(r"^USER (.+)$", last, flags=re.MULTILINE) == ["app"]
    assert "-c constraints.txt" in text
    # It would be fetched from a registry before anything is built.
    assert "syntax=" not in text


def test_no_secret_is_in_the_folder() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "docker"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    files = [ROOT / name for name in tracked] or [
        path for path in DOCKER.rglob("*") if not {"keys", "data"} & set(path.parts)
    ]
    for path in filter(Path.is_file, files):
        assert "PRIVATE KEY" not in path.read_text(encoding="utf-8"), path
        assert path.suffix not in (".key", ".crt", ".pub")
    assert {"/data/", "/keys/"} <= set((DOCKER / ".gitignore").read_text().split())


def test_the_runs_configuration_is_valid_and_waits_for_all_nodes() -> None:
    config = resolve([], DOCKER / "run.toml")
    assert config.data.source == "site"
    assert config.server.min_nodes == len(NODES)
    assert config.out_dir == "/runs"


@pytest.mark.parametrize("script", ["demo.sh", "register.sh", "with-flower.sh"])
def test_scripts_can_be_run_and_parsed(script: str) -> None:
    path = DOCKER / script
    assert path.stat().st_mode & stat.S_IXUSR
    shell = re.findall(r"^#!.*?(\w+)$", path.read_text(), flags=re.MULTILINE)[0]
    assert not subprocess.run([shell, "-n", path], check=False).returncode


def test_the_demo_says_so_where_no_engine_answers() -> None:
    nowhere = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    done = subprocess.run(
        ["make", "docker-demo"], cwd=ROOT, env=nowhere, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "no container engine answers" in done.stderr
