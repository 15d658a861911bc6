"""``regl run``: the real ``flwr run`` with nodes, resources, progress and a truthful end.

Flower's own command exits 0 when the app raised. Here a run that did not complete raises.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from regl_app.config import RunConfig
from regl_app.config.paths import refuse_unwritable, with_absolute_paths
from regl_app.core.errors import ReglError, RunError
from regl_app.core.files import storing
from regl_app.core.log import run_folder_in
from regl_app.core.processors import usable_processors
from regl_app.core.scratch import scratch_folder
from regl_app.flower.engines.app_bundle import build_app_folder, toml_table
from regl_app.flower.engines.caretaker import caretaker
from regl_app.flower.engines.command import FlowerCommand, NoAnswerError
from regl_app.flower.engines.following import follow
from regl_app.flower.engines.interrupts import terminable
from regl_app.flower.engines.ray_settings import tell_small_shared_memory
from regl_app.flower.engines.resources import check_resources, reserved_cpus, reserved_gpus
from regl_app.flower.engines.superlink import SuperLink, simulation_options
from regl_app.runs.records import RunResult

if TYPE_CHECKING:
    from regl_app.runs.folder import RunFolder

COMPLETED, STOPPED = "finished:completed", "finished:stopped"
STOP_TIMEOUT = 30.0
SCRATCH_MEGABYTES = 100

_SLOW_RAY = "The current node timed out during startup"
_SILENT_TASK = "No heartbeat received from the task"
_SLEPT = (
    "nothing was heard of the run's process for a minute: its machine slept, or was stalled, or "
    "the process was killed; go on with `regl run --resume FOLDER` (at a SuperLink: "
    f"resume=FOLDER) ({_SILENT_TASK})"
)


def run_flower(
    config: RunConfig,
    *,
    clients: int,
    client_cpus: float = 1.0,
    client_gpus: float = 0.0,
    on_line: Callable[[str], None] | None = None,
) -> Path:
    """Run ``config`` with ``clients`` simulated nodes by ``flwr run``; return the run's folder.

    Ctrl-C stops the run, not only its output, and so does a closed terminal (SIGHUP), unless that
    is ignored (``nohup``). Nothing keeps running afterwards.

    Args:
        config: the run; relative paths refer to the working directory.
        clients: number of SuperNodes.
        client_cpus: CPUs a client reserves; as many run at once as fit.
        client_gpus: likewise, may be a fraction; 0: what fits a run on GPUs.
        on_line: gets each line of the run's log; default: print it.

    Raises:
        ConfigError: this machine cannot hold one client with these reservations, or
            ``model.weights`` are not there.
        DataError: nothing is at ``data.path``, or a partition as the run asks for cannot be for so
            many clients.
        StorageError: no run folder, cache or temporary file can be written where it is to be.
        RunError: the run was refused, failed, or was stopped.
    """
    from regl_app.learning.methods.registry import make_method

    check_resources(client_cpus, client_gpus)
    refuse_unwritable(config, keeps=make_method(config).keeps)
    _check_files(config, clients)
    client_gpus = reserved_gpus(config, client_cpus, client_gpus)
    client_cpus = reserved_cpus(config, client_cpus, client_gpus)
    tell_small_shared_memory()
    # The folder that a run leaves is read from anywhere.
    config = with_absolute_paths(config)
    with (
        terminable(hangup=True),
        scratch_folder("regl-flwr-", SCRATCH_MEGABYTES) as scratch,
        caretaker(scratch, home := scratch / "home"),
    ):
        home.mkdir()
        options = simulation_options(
            [
                ("num-supernodes", clients),
                ("client-resources-num-cpus", client_cpus),
                ("client-resources-num-gpus", client_gpus),
                # Ray would take all of the machine.
                ("init-args-num-cpus", usable_processors()),
            ]
        )
        watched = _Watched()
        try:
            with SuperLink(home) as superlink:
                return _run(
                    superlink, config, on_line, watched, scratch, "--federation-config", options
                )
        except (KeyboardInterrupt, SystemExit):
            watched.tell("stopped", "stopped by the user")  # nobody else writes there any more
            raise


def _check_files(config: RunConfig, clients: int) -> None:
    """Refuse here what the run's own processes would refuse, once Flower has started them."""
    from regl_app.data.partition import check_partition
    from regl_app.data.sources.registry import refuse_absent
    from regl_app.learning.models.pretrained import check_weights
    from regl_app.runs.folder import RunFolder

    local = with_absolute_paths(config)
    if not config.data.local:
        check_partition(local.partition, clients)
        refuse_absent(local.data)
    if config.resume:
        RunFolder.open(Path(local.resume))
    else:
        check_weights(local.model)


def run_deployed(
    config: RunConfig, connection: str, on_line: Callable[[str], None] | None = None
) -> Path:
    """Run ``config`` on a SuperLink that is there; return the run's folder, which is its machine's.

    Ctrl-C stops the run, not only its output; with its terminal (SIGHUP) the output alone ends.

    Args:
        config: the run; relative paths refer to where the SuperLink was started.
        connection: the SuperLink's name in Flower's configuration.
        on_line: gets each line of the run's log; default: print it.

    Raises:
        RunError: the run was refused, failed, or was stopped; or the SuperLink has not answered
            for two minutes: then the run may still go on there.
    """
    with terminable(), scratch_folder("regl-app-") as scratch:
        return _run(FlowerCommand(connection), config, on_line, _Watched(), scratch)


def _run(
    flower: FlowerCommand,
    config: RunConfig,
    on_line: Callable[[str], None] | None,
    watched: _Watched,
    scratch: Path,
    *options: str,
) -> Path:
    """Submit ``config``, show its log, and return the folder of a run that completed."""
    show = on_line or _print
    causes: list[str] = []

    def line(text: str) -> None:
        watched.folder = watched.folder or run_folder_in(text)
        if _SLOW_RAY in text:
            causes.append(
                "Ray did not start in time: this machine is busy or short of memory (end other "
                "work and try again, or run without Ray by --engine in-process)"
            )
        show(text)

    def end(status: Literal["failed", "stopped"], why: str) -> None:
        if isinstance(flower, SuperLink):  # any other may go on with the run
            watched.tell(status, why)
            watched.look()

    try:
        app, overrides = scratch / "app", scratch / "run.toml"
        with storing(app):
            build_app_folder(app)
            overrides.write_text(toml_table(config.to_flat()), encoding="utf-8")
        run = _submit(flower, str(app), flower.connection, "-c", str(overrides), *options)
        # A node's operator compares it with what the node may run.
        if not isinstance(flower, SuperLink) and "fab-filename" in run:
            show(f"bundle: {run['fab-filename']}")
        status, details = _follow(flower, str(run["run-id"]), line, watched)
    except RunError as error:
        end("failed", str(error))
        raise
    if status != COMPLETED:
        details = details.replace(_SILENT_TASK, _SLEPT)
        why = f"the run ended as {status}: {next(iter(causes), details) or 'no details given'}"
        end("stopped" if status == STOPPED else "failed", why)
        where = f" (run folder: {watched.folder})" if watched.folder else ""
        raise RunError(why + where)
    if watched.folder is None:
        raise RunError("the run completed but named no run folder: its log was cut off")
    return watched.folder


def _submit(flower: FlowerCommand, *arguments: str) -> dict[str, Any]:
    """Return what ``flwr run`` answers; without an answer say that the run may go on."""
    unheard = (
        "the run may have been accepted and go on there "
        f"(flwr list {flower.connection}; flwr stop RUN {flower.connection})"
    )
    own = isinstance(flower, SuperLink)  # ended next, and the run with it
    try:
        return flower.ask("run", *arguments)
    except (KeyboardInterrupt, SystemExit):
        if not own:
            sys.stderr.write(f"stopped before the SuperLink answered: {unheard}\n")
        raise
    except NoAnswerError as error:
        if own:
            raise
        raise NoAnswerError(f"{error}; {unheard}") from error


@dataclass
class _Watched:
    """A run as it is seen from here.

    ``folder`` is what its log named; ``ended`` how it had ended by itself, before it was asked to
    stop or what it ran on was closed.
    """

    folder: Path | None = None
    ended: RunResult | None = None
    started: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        """Note how the run has ended by itself, if it has."""
        with suppress(ReglError, OSError):
            self.ended = None if self.folder is None else _opened(self.folder).read_result()

    def tell(self, status: Literal["failed", "stopped"], why: str) -> None:
        """Write how the run ended, unless its server did: Flower may have killed it before that.

        A server that is ended takes it for a stop; that nobody stopped it is known here only. One
        whose clients are ended first takes a stop for their failure.
        """
        if self.folder is None:
            return
        result = RunResult(status=status, seconds=time.monotonic() - self.started, error=why)
        with suppress(ReglError, OSError):  # what is raised already says more
            folder = _opened(self.folder)
            told = folder.read_result()
            mistaken = told is not None and {told.status, status} == {"failed", "stopped"}
            if told is None or (mistaken and self.ended is None):
                folder.write_result(result)


def _opened(path: Path) -> RunFolder:
    from regl_app.runs.folder import RunFolder

    return RunFolder.open(path)


def _follow(
    flower: FlowerCommand, run_id: str, line: Callable[[str], None], watched: _Watched
) -> tuple[str, str]:
    """Show the run's log until it ends; return its status and the details of a failure."""
    try:
        # One of our own is seen to be alive, and slow where this machine is.
        return follow(flower, run_id, line, far=not isinstance(flower, SuperLink))
    except (KeyboardInterrupt, SystemExit):
        watched.look()
        _stop_run(flower, run_id)
        raise


def _stop_run(flower: FlowerCommand, run_id: str) -> None:
    try:
        flower.ask("stop", run_id, flower.connection, timeout=STOP_TIMEOUT)
    except RunError as error:
        # A SuperLink of our own is ended next, and the run with it.
        if not isinstance(flower, SuperLink):
            sys.stderr.write(
                f"run {run_id} could not be stopped and may go on "
                f"(flwr stop {run_id} {flower.connection}): {error}\n"
            )


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
