"""Following a run by its log, and noticing when nobody is there any more who would write it."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

from regl_app.core.errors import ReglError, RunError
from regl_app.flower.engines.command import FlowerCommand

LOST_SECONDS = 120.0
SILENT_SECONDS = 30.0
LOOK_SECONDS = 1.0
_EXIT_SECONDS = 5.0

_GO_ON = "go on with `regl run --resume FOLDER`"
_OWN_ERRORS = f"{ReglError.__module__}."
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_RAY_PREFIX = re.compile(r"^\((?:ClientAppActor )?pid=\d+\) ")
# What Flower and Ray say of themselves; warnings and errors pass, but for that of an orderly end.
_NOISE = re.compile(
    r"^(?:INFO|DEBUG)\s*:|Since flwr 1\.32|^\(raylet\)|^\S* \S*\s*INFO worker\.py"
    r"|^WARNING\s*:\s*Manually terminating ClientAppActor"
)


def follow(
    flower: FlowerCommand, run_id: str, line: Callable[[str], None], *, far: bool
) -> tuple[str, str]:
    """Show the run's log until it ends; return its status and the details of a failure.

    Args:
        flower: the SuperLink that has the run.
        run_id: the run.
        line: gets each line of the log, once.
        far: whether the SuperLink may fall silent without a word, which a stream would not tell.

    Raises:
        RunError: the SuperLink or its superexec died, or it did not answer for ``LOST_SECONDS``.
    """
    shown, lost, finished = 0, None, False
    while True:
        whole = False
        if lost is None:
            shown, whole = _stream(flower, run_id, line, shown, far)
        asked = time.monotonic()
        try:
            status, details = _status(flower, run_id)
        except RunError as error:
            if not flower.is_running():
                raise RunError(
                    f"the SuperLink died during the run ({_GO_ON}){flower.log_tail()}"
                ) from error
            # One failure is not enough: it alone may have taken as long.
            if lost is not None and time.monotonic() - lost > LOST_SECONDS:
                raise RunError(
                    f"the SuperLink has not answered for {LOST_SECONDS:.0f} s; run {run_id} "
                    f"may go on there (flwr log {run_id} {flower.connection}): {error}"
                ) from error
            lost = asked if lost is None else lost
        else:
            lost = None
            if status.startswith("finished"):
                # What a stream that broke off has not shown is there once more, but not for ever.
                if whole or finished:
                    return status, details
                finished = True
            elif not flower.is_running():
                raise RunError(
                    "flower-superexec, which starts the SuperLink's tasks, died during the run "
                    f"(killed, or for want of memory; {_GO_ON}){flower.log_tail()}"
                )
        time.sleep(0.5)  # the stream ends a moment before the status changes


def clean_line(raw: str) -> str | None:
    """Return a log line without colours and Ray's prefix; None for Flower's and Ray's chatter."""
    text = _RAY_PREFIX.sub("", _COLOR.sub("", raw.rstrip("\n")))
    return None if not text.strip() or _NOISE.search(text) else text


def _stream(
    flower: FlowerCommand, run_id: str, line: Callable[[str], None], shown: int, far: bool
) -> tuple[int, bool]:
    """Show the log from its line ``shown`` on; return how many are shown then, and whether all.

    Every stream begins with the run's first line.
    """
    log = flower.popen("log", run_id, flower.connection, "--stream")
    lines: SimpleQueue[str | None] = SimpleQueue()
    ended = threading.Event()

    def read() -> None:
        for text in log.stdout or ():
            lines.put(text)
        ended.set()
        lines.put(None)

    reader = threading.Thread(target=read, name="log", daemon=True)
    reader.start()
    count = 0
    try:
        heard = _until_silent(lines, flower.is_running, SILENT_SECONDS if far else None)
        for text in _without_own_traces(map(clean_line, heard)):
            count += 1
            if count > shown:
                line(text)
        # A stream that ends by an error has shown what it got.
        whole = ended.is_set() and lines.empty() and _exit_status(log) == 0
    finally:
        log.terminate()
        log.wait()
        reader.join()
        if log.stdout is not None:
            log.stdout.close()
    return max(count, shown), whole


def _exit_status(log: subprocess.Popen[str]) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return log.wait(timeout=_EXIT_SECONDS)
    return None


def _until_silent(
    lines: SimpleQueue[str | None], is_running: Callable[[], bool], patience: float | None
) -> Iterator[str]:
    """Yield ``lines`` until their end, ``patience`` seconds without one, or nobody runs."""
    heard = time.monotonic()
    while patience is None or time.monotonic() - heard < patience:
        try:
            text = lines.get(timeout=min(LOOK_SECONDS, patience or LOOK_SECONDS))
        except Empty:
            if not is_running():
                return
            continue
        if text is None:
            return
        yield text
        heard = time.monotonic()


def _without_own_traces(lines: Iterable[str | None]) -> Iterator[str]:
    """Yield the lines that are not None, without the traces of errors that say it all."""
    held: list[str] = []
    for text in lines:
        if text is None:
            continue
        if text.startswith("Traceback "):
            yield from held
            held = [text]
        elif held and text.startswith(" "):
            held.append(text)
        elif held:
            if not text.startswith(_OWN_ERRORS):
                yield from (*held, text)
            held = []
        else:
            yield text
    yield from held


def _status(flower: FlowerCommand, run_id: str) -> tuple[str, str]:
    runs = flower.ask("list", flower.connection, "--run-id", run_id)["runs"]
    return str(runs[0]["status"]), str(runs[0].get("status-details") or "")
