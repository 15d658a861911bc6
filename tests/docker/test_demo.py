"""``make docker-demo`` in earnest: SuperLink, three clinics and a submitter in containers."""

from __future__ import annotations

import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(3600)  # the first build of the image downloads some GB


def lines_of(process: Any) -> Iterator[str]:
    """Yield the demo's output line by line, printed for whoever looks at a failure."""
    for line in process.stdout:
        print(line, end="")
        yield line.rstrip("\n")


# HOST:PORT... : what a connection to each came to. The names are the errors'.
CONNECT = """import json, socket, sys
said = {}
for place in sys.argv[1:]:
    host, port = place.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        said[place] = "open"
    except socket.gaierror:
        said[place] = "unknown name"
    except OSError as error:
        said[place] = str(error)
print(json.dumps(said))
"""
# METHOD URL: the status, as a node's container gets it.
ASK = """import json, ssl, sys, urllib.error, urllib.request
trust = ssl.create_default_context(cafile=sys.argv[3]) if sys.argv[3:] else None
request = urllib.request.Request(sys.argv[2], method=sys.argv[1])
try:
    print(urllib.request.urlopen(request, timeout=5, context=trust).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
# The app as it is in the image but for a comment, submitted as ever.
SUBMIT_ANOTHER = """set -e
mkdir /tmp/other
cd /opt/venv/lib/python3.11/site-packages
cp -r regl_app client_app server_app /tmp/other
echo '# another' >> /tmp/other/client_app/main.py
export PYTHONPATH=/tmp/other
exec regl run --superlink federation --config /etc/regl/run.toml rounds=1 out-dir=/tmp/other
"""


def clinics_reach_the_gate_alone(demo: Any) -> None:
    """Look out of clinic-a's container."""
    everywhere = [
        "gate:8000",
        "superlink:8000",
        f"{demo.address('superlink', 'controls')}:8000",
        f"{demo.address('gate', 'controls')}:8000",
        f"{demo.address('gate', 'outside')}:8000",
        "clinic-b:9094",
        f"{demo.address('clinic-b', 'clinic-b')}:9094",
        "example.org:443",
        "192.0.2.1:443",
    ]
    said = demo.python("clinic-a", CONNECT, *everywhere)
    assert said.pop("gate:8000") == "open"
    unreachable = "[Errno 101] Network is unreachable"
    # An engine may resolve a name that nobody outside is asked for.
    assert set(said.values()) <= {unreachable, "unknown name"}, said
    assert all(said[place] == unreachable for place in everywhere if place[0].isdigit()), said


def clinics_can_write_to_their_state_alone(demo: Any) -> None:
    """Try it as root, whom no permissions hold."""
    container = demo.container("clinic-a")
    for folder in ("/opt", "/opt/regl/flwr/apps", "/usr/local/bin", "/data"):
        touch = ("docker", "exec", "-u", "0", container, "touch", f"{folder}/new")
        done = subprocess.run(touch, capture_output=True, text=True, check=False)
        assert done.returncode and "Read-only file system" in done.stderr, (folder, done.stderr)


def controls_are_refused(demo: Any, ca: str | None) -> None:
    """Ask the gate from a clinic and from this machine."""
    scheme = "https" if ca else "http"
    path = "/v1/control/list-runs"
    inside = ("POST", f"{scheme}://gate:8000{path}", *(["/run/keys/ca.crt"] if ca else []))
    assert demo.python("clinic-a", ASK, *inside) == 403
    trust = ssl.create_default_context(cafile=ca) if ca else None
    here = f"{scheme}://localhost:{demo.address('gate').rsplit(':', 1)[1]}"
    with urllib.request.urlopen(f"{here}/health", timeout=10, context=trust) as answer:
        assert answer.read() == b"gate\n"
    request = urllib.request.Request(here + path, method="POST")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10, context=trust)


def submit(demo: Any, *command: str, bundle: Path | None = None) -> tuple[int, str]:
    """Run ``command`` from where runs are submitted; return its exit status and all it said."""
    mounts = ["-v", f"{ROOT / 'docker'}:/etc/regl:ro"]
    mounts += ["-v", f"{bundle}:/tmp/bundle.fab:ro"] if bundle else []
    container = (
        "--rm",
        "--init",
        "--network",
        f"{demo.project}_controls",
        "-e",
        "FLWR_HOME=/tmp/f",
    )
    done = subprocess.run(
        [
            "docker",
            "run",
            *container,
            *mounts,
            demo.image,
            "sh",
            "/etc/regl/with-flower.sh",
            *command,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    return done.returncode, done.stdout


def another_bundle_is_refused(demo: Any) -> None:
    """Submit this app with a comment more."""
    status, said = submit(demo, "sh", "-c", SUBMIT_ANOTHER)
    refused = re.findall(
        r"node (\d+): failed: .*Read-only file system: '/opt/regl/flwr/apps/regl\.regl-app\.", said
    )
    assert status == 1 and len(set(refused)) == 3


def a_bundle_that_leads_out_of_its_folder_is_refused(
    demo: Any, file: Path, bundle: bytes, script: str
) -> None:
    """Submit one that Flower unpacks to /state, where a node may write, and would run there."""
    file.write_bytes(bundle)
    submit(demo, "python", "-c", script, "/tmp/bundle.fab", "federation", bundle=file)
    for clinic in ("clinic-a", "clinic-b", "clinic-c"):
        container = demo.container(clinic)
        assert "evil." in demo.engine("exec", container, "ls", "/state"), "not even unpacked"
        logs = subprocess.run(["docker", "logs", container], capture_output=True, text=True)
        said = logs.stdout + logs.stderr
        assert "this node runs no code from /opt/regl/flwr/apps/../" in said
        assert "FOREIGN CODE RUNS" not in said


def test_the_demo_runs_leaves_its_report_and_keeps_each_in_his_place(
    demo: Any, bundle_of: Callable[..., bytes], foreign_code: dict[str, str], submit_script: str
) -> None:
    process = demo.start("rounds=2", KEEP="1")
    lines = list(lines_of(process))
    assert process.wait() == 0
    run = demo.run_folder()
    assert lines[-1] == f"docker-demo: report: {run.report}"
    assert run.report.is_file() and run.load_model()
    history = [record for record in run.read_history() if record.round]
    assert len(history) == 2 and not any(record.failures for record in history)
    assert sum(map(sum, filter(None, history[-1].synthetic_counts or []))) > 0

    clinics_reach_the_gate_alone(demo)
    clinics_can_write_to_their_state_alone(demo)
    controls_are_refused(demo, ca=None)
    another_bundle_is_refused(demo)
    a_bundle_that_leads_out_of_its_folder_is_refused(
        demo,
        demo.folder / "evil.fab",
        bundle_of("", "", "/../../../state/evil", foreign_code),
        submit_script,
    )
    demo.engine("compose", "-f", str(ROOT / "docker" / "compose.yaml"), "down", "--volumes")
    assert not demo.left_over()


def test_a_failed_run_is_a_failed_demo(demo: Any) -> None:
    process = demo.start("rounds=1", "data.classes=x,y")
    lines = list(lines_of(process))
    assert process.wait() != 0
    assert any("docker-demo: the run failed" in line for line in lines)
    assert not demo.left_over()


def test_with_tls_a_clinic_stopped_amid_the_run_is_named_and_comes_back(demo: Any) -> None:
    process = demo.start("rounds=5", TLS="1")
    clinic = ""
    for line in lines_of(process):
        if "round 1/5:" in line:
            controls_are_refused(demo, ca=str(demo.folder / "keys" / "ca.crt"))
            clinic = demo.container("clinic-b")
            demo.engine("stop", clinic)
        # The run waits for it: it needs server.min-nodes=3 to evaluate.
        if "client 1: failed" in line:
            demo.engine("start", clinic)
    assert process.wait() == 0
    history = [record for record in demo.run_folder().read_history() if record.round]
    missed = [record.round for record in history if record.failures]
    assert missed and missed[0] == 2 and missed[-1] < 5
    assert not history[0].failures and not history[-1].failures
    back = history[-1].clients[1]
    assert back["adapter_cached"] and back["reused"] and not back["generated"], "made twice"
    assert demo.run_folder().report.is_file() and not demo.left_over()
