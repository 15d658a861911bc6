"""The units of docs/systemd/: own users, hardened, no open network but the gate's port."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from regl_app.flower.deployment.gate import CONTROL_PORT, PUBLIC_PORT
from regl_app.flower.deployment.task_guard import CLIENT

UNITS = Path(__file__).resolve().parents[2] / "docs" / "systemd"
NAMES = ("regl-gate", "regl-superlink", "regl-supernode")
HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateIPC": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "LockPersonality": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
    "Restart": "always",
    "RestartSec": "10",
}
# systemd's own measure, times ten: 0 is closed, 100 open; a unit without any of it has 96.
THRESHOLD = 15


def settings(name: str) -> dict[str, list[str]]:
    """Return a unit's keys with all that they are set to, in order."""
    text = (UNITS / f"{name}.service").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(" ".join(value.split()))
    return found


def environment(name: str) -> dict[str, str]:
    """Return the variables that a unit sets."""
    pairs = [pair for line in settings(name)["Environment"] for pair in line.split()]
    return dict(pair.split("=", 1) for pair in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_has_all_of_the_hardening_and_starts_again(name: str) -> None:
    unit = settings(name)
    assert {key: unit.get(key) for key in HARDENED} == {k: [v] for k, v in HARDENED.items()}
    assert unit["SystemCallFilter"][0] == "@system-service"
    assert unit["SystemCallFilter"][1].startswith("~@privileged")
    assert {"MemoryMax", "TasksMax"} <= set(unit) and unit["StartLimitIntervalSec"] == ["0"]
    # torch compiles; nginx does not.
    assert ("MemoryDenyWriteExecute" in unit) is (name == "regl-gate")


def test_each_service_has_a_user_of_its_own() -> None:
    users = [settings(name)["User"][0] for name in NAMES]
    assert len({*users, "root", "nobody"}) == 5
    assert users == [settings(name)["Group"][0] for name in NAMES]


@pytest.mark.parametrize("name", ["regl-superlink", "regl-supernode"])
def test_what_runs_apps_reaches_its_own_machine_alone_until_a_drop_in_says_more(name: str) -> None:
    unit = settings(name)
    assert unit["IPAddressDeny"] == ["any"] and unit["IPAddressAllow"] == ["localhost"]


def test_the_gate_is_the_only_open_port_and_the_superlink_is_behind_it() -> None:
    gate = settings("regl-gate")
    assert gate["SocketBindDeny"] == ["any"] and gate["SocketBindAllow"] == [f"tcp:{PUBLIC_PORT}"]
    words = shlex.split(settings("regl-superlink")["ExecStart"][0])
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == str(CONTROL_PORT)
    assert {"--enable-supernode-auth", "--disable-runtime-dependency-installation"} <= set(words)
    words = shlex.split(settings("regl-supernode")["ExecStart"][0])
    assert "--insecure" not in words and "--host" not in words


def test_a_node_can_write_its_state_alone_and_finds_flowers_programs_guarded_or_not_at_all() -> (
    None
):
    unit, variables = settings("regl-supernode"), environment("regl-supernode")
    assert unit["TemporaryFileSystem"] == ["/srv:ro"]
    assert unit["BindPaths"] == ["/srv/regl/state"]
    assert not {"ReadWritePaths", "StateDirectory", "RuntimeDirectory"} & set(unit)
    seen = unit["BindReadOnlyPaths"][0].split()
    first, *others = variables["PATH"].split(":")
    assert first in seen and variables["FLWR_HOME"] in seen and "/srv/regl/images" in seen
    # Of Flower's own programs none has to be where the guard is passed by.
    assert others == ["/usr/bin", "/bin"]
    assert f"{first}/{CLIENT}" in unit["AssertPathExists"]
    assert f"{variables['FLWR_HOME']}/apps" in unit["AssertPathIsDirectory"]


@pytest.mark.parametrize("name", ["regl-superlink", "regl-supernode"])
def test_flower_knows_every_option_of_a_command(name: str) -> None:
    program, *words = shlex.split(settings(name)["ExecStart"][0])
    own = Path(sys.executable).parent / Path(program).name
    done = subprocess.run([own, "--help"], capture_output=True, text=True, check=True)
    options = {word for word in words if word.startswith("--")}
    assert options and options <= set(re.findall(r"--[a-z-]+", done.stdout))


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="NOT TESTED: no systemd-analyze here (apt-get install systemd)",
)
@pytest.mark.parametrize("name", NAMES)
def test_systemd_understands_a_unit_and_finds_it_closed(name: str, tmp_path: Path) -> None:
    unit = tmp_path / f"{name}.service"
    text = (UNITS / unit.name).read_text(encoding="utf-8")
    # It looks for the programs, which need not be on this machine.
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*command, f"--threshold={THRESHOLD}", unit], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
