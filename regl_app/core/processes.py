"""Ending the processes one has started, and theirs, by their ids."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

_PROC = Path("/proc")


def descendants(pid: int) -> dict[int, str]:
    """Return the living descendants of ``pid`` with their start times (empty without /proc).

    A start time tells a process from a later one that got the same id.
    """
    parents: dict[int, tuple[int, str]] = {}
    for entry in _PROC.glob("[0-9]*"):
        stat = _stat(int(entry.name))
        if stat is not None:
            parents[int(entry.name)] = stat
    found: dict[int, str] = {}
    frontier = {pid}
    while frontier:
        children = {child for child, (parent, _) in parents.items() if parent in frontier}
        frontier = children - set(found)
        found |= {child: parents[child][1] for child in frontier}
    return found


def carrying(variable: str, value: str) -> dict[int, str]:
    """Return this user's processes that have ``variable=value`` in their environment.

    With their start times, and whoever is their parent by now: Ray's outlive the one they had.
    """
    wanted = f"{variable}={value}".encode()
    found: dict[int, str] = {}
    for entry in _PROC.glob("[0-9]*"):
        try:
            values = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        stat = _stat(int(entry.name))
        if wanted in values and stat is not None:
            found[int(entry.name)] = stat[1]
    return found


def of_program(name: str, processes: dict[int, str]) -> dict[int, str]:
    """Return those of ``processes`` (id -> start time) whose command line names a program so.

    Before its own options: an interpreter, with options of one letter, may come first.
    """
    found: dict[int, str] = {}
    for pid, started in processes.items():
        try:
            words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        command = itertools.takewhile(lambda word: not word.startswith(b"--"), words)
        if name in (Path(os.fsdecode(word)).name for word in command):
            found[pid] = started
    return found


def started_at(pid: int) -> str | None:
    """Return a living process's start time, None if there is none (or no /proc)."""
    found = _stat(pid)
    return None if found is None else found[1]


def end_processes(processes: dict[int, str], grace: float = 5.0) -> None:
    """Ask ``processes`` (id -> start time) to end; kill what is left after ``grace`` seconds."""
    for how, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for pid in _alive(processes):
            _signal(pid, how)
        wait_until_gone(processes, patience)


def wait_until_gone(processes: dict[int, str], patience: float) -> bool:
    """Return whether all of ``processes`` ended within ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while _alive(processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _alive(processes: dict[int, str]) -> list[int]:
    return [
        pid
        for pid, started in processes.items()
        if (stat := _stat(pid)) is not None and stat[1] == started
    ]


def _signal(pid: int, how: signal.Signals) -> None:
    try:
        os.kill(pid, how)
    except (ProcessLookupError, PermissionError):
        return  # it ended, or its id was given to somebody else's process


def _stat(pid: int) -> tuple[int, str] | None:
    """Return (parent, start time) of a process that is neither gone nor a zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    # The name in parentheses may itself hold spaces and parentheses.
    fields = text.rsplit(")", 1)[1].split()
    return None if fields[0] == "Z" else (int(fields[1]), fields[19])
