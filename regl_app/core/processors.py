"""How many processors this process may use: those of the machine, less what it was not given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Tasks of SLURM are not always confined to what they were given.
_SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


def usable_processors() -> int:
    """Return the number of processors this process may use, at least 1.

    That is the least of those of the machine, those that it is bound to (``taskset``, a cpuset),
    the quota of its container (cgroup, both versions) and what SLURM gave to its task.
    """
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    else:
        bound = os.cpu_count() or 1
    limits = [bound, *_quotas(_CGROUPS, _OWN_GROUPS), *_slurm()]
    return max(1, int(min(limits)))


def _slurm() -> Iterator[int]:
    for name in _SLURM:
        text = os.environ.get(name, "")
        if text.isdecimal():
            yield int(text)
            return


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """Yield the quotas, in processors, of this process's control group and those around it."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if not controllers:
            folders = [root]
        elif "cpu" in controllers.split(","):
            folders = [root / controllers, root / "cpu"]
        else:
            continue
        # In a container the path may be the host's, whose folders are not seen from within: its
        # own limits are then those of the root.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for folder in folders:
            for depth in range(len(parts), -1, -1):
                with suppress(OSError, ValueError):
                    yield from _quota(
                        folder.joinpath(*parts[:depth]), version=1 + (not controllers)
                    )


def _quota(folder: Path, version: int) -> Iterator[float]:
    if version == 2:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    else:
        quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
        period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
    if quota not in ("max", "-1") and int(period) > 0:
        yield int(quota) / int(period)
