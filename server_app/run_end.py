"""However a run ends, its folder says so: finished, failed, or stopped from outside."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from regl_app.core.errors import StorageError
from regl_app.core.files import storing
from regl_app.core.log import is_deployed, logger
from regl_app.runs.folder import RunFolder
from regl_app.runs.lock import running
from regl_app.runs.records import RunResult
from server_app.resume import refuse_finished

STOPPED = "stopped from outside (flwr stop, or its SuperLink was ended)"


@contextmanager
def record_run_end(
    folder: RunFolder, on_end: Callable[[RunResult], None], started: float
) -> Iterator[dict[str, int]]:
    """Write result.json when the block ends, and call ``on_end`` with what it says.

    ``started`` is when the run began, by ``time.monotonic``: loading its data is a part of it.

    What the block puts into the table that it gets is said too, if the run is finished.

    ``flwr stop`` and a dying SuperLink end the process from a signal handler that gives five
    seconds and then kills: what the folder says is written before that clock starts.

    Raises:
        RunError: another process runs this folder, or has just finished it.
    """
    end = _End(folder, on_end, started)
    with running(folder.path):
        refuse_finished(folder)
        folder.forget_result()
        if Path(sys.argv[0]).name.startswith("flwr-"):  # only there does Flower end the process
            from flwr.supercore.exit import add_exit_handler

            add_exit_handler(lambda: end.tell("stopped", STOPPED), run_before_force_exit=True)
        try:
            with storing(folder.path):
                yield end.rounds
        except Exception as error:
            if isinstance(error, StorageError):
                logger.error("%s; then go on by resume='%s'", error, folder.path)
            end.tell("failed", str(error) or type(error).__name__)
            level = logging.ERROR if is_deployed() else logging.DEBUG
            logger.log(level, "failed: %s: %s", type(error).__name__, error)  # Flower adds a trace
            raise
        except BaseException:  # SystemExit by Flower, Ctrl-C
            end.tell("stopped", STOPPED)
            raise
        end.tell("finished")


@dataclass
class _End:
    folder: RunFolder
    on_end: Callable[[RunResult], None]
    started: float
    told: bool = False
    rounds: dict[str, int] = field(default_factory=dict)

    def tell(self, status: str, error: str | None = None) -> None:
        if self.told:  # no lock: a signal handler may come in between, in the same thread
            return
        seconds = time.monotonic() - self.started
        rounds = self.rounds if status == "finished" else {}
        result = RunResult.model_validate(
            {"status": status, "seconds": seconds, "error": error, **rounds}
        )
        try:
            self.folder.write_result(result)
        except (OSError, StorageError) as problem:  # a full disk, which may be why it ends
            logger.error("the end of the run (%s) could not be written: %s", status, problem)
        self.told = True
        self.on_end(result)
