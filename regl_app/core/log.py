"""Log lines that tell who is doing what, and how long it will take.

For people at a terminal they are short (``plain``). In a deployment, where lines of many rounds
and runs end up in one log, each opens with its time, level, node, round and phase (``full``);
``json`` gives a log collector one object per line.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from regl_app.core.activity import current
from regl_app.core.errors import ConfigError
from regl_app.core.formats import format_seconds
from regl_app.core.types import Progress

LOGGER = "regl"
logger = logging.getLogger(LOGGER)
"""Ours: every module logs here, its level and form are those of ``setup_logging``."""
SERVER = "server"
"""What the ServerApp is called in logs."""
FORMATS = ("auto", "plain", "full", "json")
FORMAT_VARIABLE = "REGL_LOG_FORMAT"
"""Environment variable by which a machine's operator overrides the run's ``log-format``."""

RUN_FOLDER_LINE = "run folder: "
"""Opens the log line by which ``regl run`` learns where a run writes."""

_ARRAY_COPY = "__array__ implementation doesn't accept a copy keyword"


def setup_logging(log_format: str = "auto") -> logging.Logger:
    """Return the logger ``regl``, writing to stdout unless the program configured logging.

    Its records carry ``who``, ``round`` and ``phase`` for any formatter.

    Args:
        log_format: one of ``FORMATS``; 'auto' is 'full' in a deployment, else 'plain'.

    Raises:
        ConfigError: ``$REGL_LOG_FORMAT`` is none of them.
    """
    # diffusers' schedulers under NumPy 2: two long lines per worker that no user can act on.
    warnings.filterwarnings("ignore", _ARRAY_COPY, DeprecationWarning, r"diffusers\.")
    chosen = _chosen(log_format)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if _tell_activity not in logger.filters:
        logger.addFilter(_tell_activity)
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.handlers[0].setFormatter(RunFormatter(chosen))
        logger.propagate = False
    for handler in logger.handlers:
        if isinstance(handler.formatter, RunFormatter):
            handler.formatter.kind = chosen
    return logger


def is_deployed() -> bool:
    """Return whether a SuperLink or SuperNode started this process for its app."""
    program = Path(sys.argv[0])
    warm = program.parts[-3:] == ("client_app", "worker", "server.py")
    return warm or program.name in {"flwr-serverapp", "flwr-clientapp"}


def _chosen(log_format: str) -> str:
    own = os.environ.get(FORMAT_VARIABLE, "")
    if own not in ("", *FORMATS):
        raise ConfigError(f"{FORMAT_VARIABLE} must be one of {', '.join(FORMATS)}, got {own!r}")
    chosen = own or log_format
    if chosen != "auto":
        return chosen
    return "full" if is_deployed() else "plain"


def _tell_activity(record: logging.LogRecord) -> bool:
    now = current()
    record.who = now.who if now else ""
    record.round = now.round if now else 0
    record.phase = now.phase if now else ""
    return True


class RunFormatter(logging.Formatter):
    """Formats records of the logger ``regl`` as ``kind``: plain, full or json."""

    def __init__(self, kind: str) -> None:
        super().__init__("%(message)s")
        self.kind = kind

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line; in ``json`` without line breaks."""
        text = super().format(record)
        if self.kind == "plain":
            return text
        who, phase = getattr(record, "who", ""), getattr(record, "phase", "")
        number = getattr(record, "round", 0)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        stamp += f".{int(record.msecs):03d}Z"
        if self.kind == "json":
            entry: dict[str, Any] = {"time": stamp, "level": record.levelname, "who": who}
            entry |= {"round": number, "phase": phase, "message": _bare(who, record.getMessage())}
            if record.exc_info:
                entry["exception"] = self.formatException(record.exc_info)
            return json.dumps(entry, ensure_ascii=False)
        at = f"{who} round {number} {phase}: " if number else f"{who} {phase}: " if who else ""
        return f"{stamp} {record.levelname} {at}{_bare(who, text)}"


def _bare(who: str, text: str) -> str:
    """Return ``text`` without the name that short lines open with."""
    names = "server" if who == SERVER else rf"{re.escape(who)}|client \d+"
    return re.sub(rf"^(?:{names}): ", "", text) if who else text


def run_folder_in(line: str) -> Path | None:
    """Return the run folder that a log line of any format names, None if it names none."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return None
        line = str(entry.get("message", "")) if isinstance(entry, dict) else ""
    before, found, path = line.partition(RUN_FOLDER_LINE)
    return Path(path) if found and (not before or before.endswith(f" {SERVER} start: ")) else None


def log_progress(who: str, every: float = 5.0) -> Progress:
    """Return a callback ``(what, done, total)`` that logs at most one line per ``every`` seconds.

    The end of each ``what`` is left to the caller, who knows what came of it.
    """
    started: dict[str, float] = {}
    last = {"time": time.monotonic()}

    def report(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        begin = started.setdefault(what, now)
        if done >= total:
            started.pop(what)
        elif now - max(begin, last["time"]) >= every:
            last["time"] = now
            left = (now - begin) / done * (total - done) if done and now > begin else None
            eta = "" if left is None else f", about {format_seconds(left)} left"
            logger.info("%s: %s %d/%d%s", who, what, done, total, eta)

    return report
