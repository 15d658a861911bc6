"""``regl run``: the real ``flwr run`` with nodes, resources, progress and a truthful end.

Flower's own command exits 0 when the app raised. Here a run that did not complete raises.
"""

from __future__ import annotations

import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from regl_app.app_folder import build_app_folder, toml_table
from regl_app.config import RunConfig
from regl_app.errors import ConfigError, RunError
from regl_app.progress import RUN_FOLDER_LINE
from regl_app.superlink import CONNECTION, SuperLink, simulation_options
from regl_app.workdir import with_absolute_paths

COMPLETED = "finished:completed"
STOP_TIMEOUT = 30.0

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_RAY_PREFIX = re.compile(r"^\((?:ClientAppActor )?pid=\d+\) ")
# What Flower and Ray say of themselves; warnings and errors pass.
_NOISE = re.compile(r"^(?:INFO|DEBUG)\s*:|Since flwr 1\.32|^\(raylet\)|^\S* \S*\s*INFO worker\.py")


def run_flower(
    config: RunConfig,
    *,
    clients: int,
    client_cpus: float = 1.0,
    client_gpus: float = 0.0,
    on_line: Callable[[str], None] | None = None,
) -> Path:
    """Run ``config`` with ``clients`` simulated nodes by ``flwr run``; return the run's folder.

    Ctrl-C stops the run, not only its output. Nothing keeps running afterwards.

    Args:
        config: the run; relative paths refer to the working directory.
        clients: number of SuperNodes.
        client_cpus: CPUs a client reserves; as many run at once as fit.
        client_gpus: likewise, may be a fraction.
        on_line: gets each line of the run's log; default: print it.

    Raises:
        ConfigError: CPUs per client are not whole, which Flower needs.
        RunError: the run was refused, failed, or was stopped.
    """
    if client_cpus < 1 or client_cpus != int(client_cpus):
        raise ConfigError(f"CPUs per client must be a whole number >= 1, got {client_cpus:g}")
    show = on_line or _print
    folder: list[Path] = []

    def line(text: str) -> None:
        if text.startswith(RUN_FOLDER_LINE):
            folder.append(Path(text.removeprefix(RUN_FOLDER_LINE)))
        show(text)

    # The run folder is named by the server; only its parent is fixed here.
    config = config.updated({"out-dir": with_absolute_paths(config).out_dir})
    with (
        _terminable(),
        tempfile.TemporaryDirectory(prefix="regl-flwr-", ignore_cleanup_errors=True) as scratch,
    ):
        home, app = Path(scratch) / "home", Path(scratch) / "app"
        home.mkdir()
        build_app_folder(app)
        overrides = Path(scratch) / "run.toml"
        overrides.write_text(toml_table(config.to_flat()), encoding="utf-8")
        options = simulation_options(
            [
                ("num-supernodes", clients),
                ("client-resources-num-cpus", int(client_cpus)),
                ("client-resources-num-gpus", client_gpus),
            ]
        )
        with SuperLink(home) as superlink:
            started = superlink.ask(
                "run", str(app), CONNECTION, "-c", str(overrides), "--federation-config", options
            )
            status, details = _follow(superlink, str(started["run-id"]), line)
    if status != COMPLETED:
        where = f" (run folder: {folder[0]})" if folder else ""
        raise RunError(f"the run ended as {status}: {details or 'no details given'}{where}")
    if not folder:
        raise RunError("the run completed but named no run folder: its log was cut off")
    return folder[0]


def _follow(superlink: SuperLink, run_id: str, line: Callable[[str], None]) -> tuple[str, str]:
    """Show the run's log until it ends; return its status and the details of a failure."""
    try:
        while True:
            _stream(superlink, run_id, line)
            status, details = _status(superlink, run_id)
            if status.startswith("finished"):
                return status, details
            if not superlink.is_running():
                raise RunError(f"the SuperLink died during the run{superlink.log_tail()}")
            time.sleep(0.5)  # the stream ends a moment before the status changes
    except (KeyboardInterrupt, SystemExit):
        _stop_run(superlink, run_id)
        raise


def _stream(superlink: SuperLink, run_id: str, line: Callable[[str], None]) -> None:
    log = superlink.popen("log", run_id, CONNECTION, "--stream")
    try:
        for raw in log.stdout or ():
            text = clean_line(raw)
            if text is not None:
                line(text)
    finally:
        log.terminate()
        log.wait()
        if log.stdout is not None:
            log.stdout.close()


def _status(superlink: SuperLink, run_id: str) -> tuple[str, str]:
    runs = superlink.ask("list", CONNECTION, "--run-id", run_id)["runs"]
    return str(runs[0]["status"]), str(runs[0].get("status-details") or "")


def _stop_run(superlink: SuperLink, run_id: str) -> None:
    try:
        superlink.ask("stop", run_id, CONNECTION, timeout=STOP_TIMEOUT)
    except RunError:
        return  # the SuperLink is ended next, and the run with it


def clean_line(raw: str) -> str | None:
    """Return a log line without colours and Ray's prefix; None for Flower's and Ray's chatter."""
    text = _RAY_PREFIX.sub("", _COLOR.sub("", raw.rstrip("\n")))
    return None if not text.strip() or _NOISE.search(text) else text


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that nothing is left running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
