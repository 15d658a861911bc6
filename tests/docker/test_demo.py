"""``make docker-demo`` in earnest: SuperLink, three clinics and a submitter in containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(3600)  # the first build of the image downloads some GB


def lines_of(process: Any) -> Iterator[str]:
    """Yield the demo's output line by line, printed for whoever looks at a failure."""
    for line in process.stdout:
        print(line, end="")
        yield line.rstrip("\n")


def test_the_demo_runs_and_leaves_its_report_and_nothing_else(demo: Any) -> None:
    process = demo.start("rounds=2")
    lines = list(lines_of(process))
    assert process.wait() == 0
    run = demo.run_folder()
    assert lines[-1] == f"docker-demo: report: {run.report}"
    assert run.report.is_file() and run.load_model()
    history = [record for record in run.read_history() if record.round]
    assert len(history) == 2 and not any(record.failures for record in history)
    assert sum(map(sum, filter(None, history[-1].synthetic_counts or []))) > 0
    assert not demo.left_over()


def test_a_failed_run_is_a_failed_demo(demo: Any) -> None:
    process = demo.start("rounds=1", "data.classes=x,y")
    lines = list(lines_of(process))
    assert process.wait() != 0
    assert any("docker-demo: the run failed" in line for line in lines)
    assert not demo.left_over()


def test_with_tls_a_clinic_stopped_amid_the_run_is_named_and_comes_back(demo: Any) -> None:
    process = demo.start("rounds=5", "server.timeout=150", TLS="1")
    clinic = ""
    for line in lines_of(process):
        if "round 1/5:" in line:
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
