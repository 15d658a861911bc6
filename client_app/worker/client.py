"""The message's side of the warm worker: find it or start it, hand it the request."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from flwr.app import Context, RecordDict

from client_app.worker.wire_format import (
    LONGEST_WAIT,
    WorkerRequest,
    receive_answer,
    receive_taken,
    send_request,
)
from regl_app.core.app_root import APP_ROOT
from regl_app.core.errors import RunError, StorageError
from regl_app.core.files import exclusive
from regl_app.core.processes import end_processes, started_at
from regl_app.core.scratch import private_folder
from regl_app.flower.code_hash import named_code_hash

_START_SECONDS = 120.0
_POLL_SECONDS = 0.05
_CREDENTIALS = struct.Struct("3i")
"""A socket's other end: process, user, group."""
_TRIES = 3
"""One worker may end for its age or its code just as it is asked, and the next as well."""


class WorkerUnavailableError(Exception):
    """No worker can be had; the request has not been begun."""


def ask_worker(
    kind: str,
    content: RecordDict,
    context: Context,
    *,
    owner: int,
    idle_seconds: float,
    wanted_until: float | None = None,
) -> RecordDict:
    """Return what this node's worker makes of a request, starting it if there is none.

    It ends with the process ``owner``, after ``idle_seconds`` without work, or when this process
    dies amid a request. It is killed where it has not answered by the Unix time ``wanted_until``,
    whether it hangs or is slow; with None it is waited for without end.

    Raises:
        WorkerUnavailableError: there is none and none can be started.
        ReglError: the worker's own error, or it died over the request or was killed.
    """
    begun = started_at(owner)
    if owner <= 1 or begun is None:
        raise WorkerUnavailableError(f"no process {owner} that it could end with")
    # This process is new: it sees the files as they are now.
    code = named_code_hash(str(context.run_config.get("model.name", "")))
    request = WorkerRequest(kind, code, content, context)
    why = ""
    for _ in range(_TRIES):
        path = _private_folder() / f"{owner}-{begun}.sock"
        with _connection(path, owner, begun, idle_seconds) as line:
            try:
                line.settimeout(_seconds_until(wanted_until))
                send_request(line, request)
                taken = receive_taken(line)
                line.settimeout(_seconds_until(wanted_until))
                if taken:
                    return _answer(line, kind)
                why = "it runs other code and does not end"
            except (EOFError, ConnectionError):
                why = "it ends before it takes a request"
            except TimeoutError as error:
                _kill_other_end(line)
                raise RunError(
                    f"the node's worker process had no answer to this {kind} request when the "
                    "server no longer waited for it, and was ended: it hung, is too slow for "
                    "server.timeout, or this node's clock is ahead"
                ) from error
    raise WorkerUnavailableError(why)


def _answer(line: socket.socket, kind: str) -> RecordDict:
    try:
        return receive_answer(line)
    except (EOFError, ConnectionError) as error:
        raise RunError(
            f"the node's worker process died over this {kind} request (out of memory? "
            "its last words are in the SuperNode's log)"
        ) from error


def _seconds_until(wanted_until: float | None) -> float | None:
    """Return a socket's timeout, None for none.

    Raises:
        TimeoutError: that time is over.
    """
    if wanted_until is None:
        return None
    left = wanted_until - time.time()
    if left <= 0:
        raise TimeoutError
    return left if left < LONGEST_WAIT else None


def _kill_other_end(line: socket.socket) -> None:
    """Kill the worker, which need not be of a mind to end by itself."""
    found = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(found)
    begun = started_at(pid)
    if begun is not None:
        end_processes({pid: begun}, grace=0.0)


def _connection(path: Path, owner: int, begun: str, idle_seconds: float) -> socket.socket:
    try:
        with exclusive(path):
            line = _connected(path)
            return line or _start(path, owner, begun, idle_seconds)
    except OSError as error:
        raise WorkerUnavailableError(str(error)) from error


def _connected(path: Path) -> socket.socket | None:
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        line.close()
        return None
    return line


def _start(path: Path, owner: int, begun: str, idle_seconds: float) -> socket.socket:
    search = os.pathsep.join(filter(None, [str(APP_ROOT), os.environ.get("PYTHONPATH")]))
    # -P: a client_app in the working directory must not come before the bundle's.
    command = (sys.executable, "-P", "-m", "client_app.worker.server")
    process = subprocess.Popen(
        [*command, str(path), str(owner), begun, str(idle_seconds)],
        env={**os.environ, "PYTHONPATH": search},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            line = _connected(path)
            if line is not None:
                return line
            time.sleep(_POLL_SECONDS)
    except BaseException:  # also when this process is told to end
        process.kill()
        process.wait()
        raise
    status = process.returncode
    if status is not None:
        how = f"exit status {status}" if status >= 0 else f"killed by signal {-status}"
        raise WorkerUnavailableError(f"it ended as it started: {how}")
    process.kill()
    raise WorkerUnavailableError(f"it did not come up within {_START_SECONDS:g} s")


def _private_folder() -> Path:
    """Return a folder that only this user can enter; socket paths have to be short."""
    try:
        return private_folder(f"regl-{os.getuid()}")
    except StorageError as error:
        raise WorkerUnavailableError(str(error)) from error
