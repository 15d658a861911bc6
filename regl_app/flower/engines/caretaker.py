"""Who ends a run's SuperLink when the run's own process was killed and could not.

A SuperLink has a session of its own and looks after nobody: it would go on, and Ray with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regl_app.core.app_root import APP_ROOT
from regl_app.core.processes import carrying, end_processes, of_program, wait_until_gone

_LOOK = 0.5
_ORDERLY, _GRACE = 15.0, 3.0


@contextmanager
def caretaker(scratch: Path, home: Path) -> Iterator[None]:
    """Have a process of its own that takes over if this one is killed meanwhile.

    It ends all that has ``home`` as ``FLWR_HOME``, and removes ``scratch``.
    """
    paths = [str(APP_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(os.getpid()), str(scratch), str(home)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what ends this one's group must not end it
    )
    try:
        yield
    finally:
        # What could not be ended here is ended once this process has.
        if not carrying("FLWR_HOME", str(home)):
            process.terminate()
            process.wait()


def main(parent: int, scratch: Path, home: Path) -> None:
    """Wait until this process has another parent; end and remove what the old one has left."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == parent:
        time.sleep(_LOOK)
    # The others watch their parent and end by themselves, mostly.
    end_processes(of_program("flower-superlink", carrying("FLWR_HOME", str(home))), _ORDERLY)
    while left := carrying("FLWR_HOME", str(home)):
        if not wait_until_gone(left, _GRACE):
            end_processes(left)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
