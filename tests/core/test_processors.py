"""What a process may use of a machine's processors, by every bound that is put on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regl_app.core import processors
from regl_app.core.processors import usable_processors


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of sixteen processors without a bound, whose control groups lie in a folder."""
    for name in processors._SLURM:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(processors, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "_OWN_GROUPS", tmp_path / "own")
    return tmp_path


def group(machine: Path, own: str, **files: str) -> None:
    (machine / "own").write_text(own, encoding="utf-8")
    for name, content in files.items():
        path = machine / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def test_without_a_bound_all_are_used(machine: Path) -> None:
    assert usable_processors() == 16
    group(machine, "0::/\n", cpu_dot_max="max 100000\n")
    assert usable_processors() == 16


@pytest.mark.parametrize(("quota", "usable"), [(400_000, 4), (250_000, 2), (50_000, 1)])
def test_the_quota_of_a_container_of_version_2(machine: Path, quota: int, usable: int) -> None:
    group(machine, "0::/\n", cpu_dot_max=f"{quota} 100000\n")
    assert usable_processors() == usable


def test_the_least_of_nested_groups_counts(machine: Path) -> None:
    group(
        machine,
        "0::/job.slice/step\n",
        job_dot_slice__cpu_dot_max="300000 100000",
        job_dot_slice__step__cpu_dot_max="max 100000",
    )
    assert usable_processors() == 3


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_the_quota_of_version_1(machine: Path, folder: str) -> None:
    own = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n"
    group(
        machine,
        own,
        **{
            f"{folder}__cpu.cfs_quota_us": "200000\n",
            f"{folder}__cpu.cfs_period_us": "100000\n",
        },
    )
    assert usable_processors() == 2
    group(machine, own, **{f"{folder}__cpu.cfs_quota_us": "-1\n"})
    assert usable_processors() == 16


@pytest.mark.parametrize("damaged", ["", "1", "a b", "100 0"])
def test_what_cannot_be_read_bounds_nothing(machine: Path, damaged: str) -> None:
    group(machine, "0::/\nnonsense\n", cpu_dot_max=damaged)
    assert usable_processors() == 16


def test_slurm_tells_what_a_task_was_given(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    assert usable_processors() == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert usable_processors() == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "")
    assert usable_processors() == 8


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no such bounds on this system")
def test_a_bound_process_counts_its_own_alone() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from regl_app.core.processors import usable_processors; print(usable_processors())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
