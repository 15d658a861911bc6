"""Where a request is carried out: in this process, or in the node's warm worker."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from flwr.app import Context, RecordDict
from flwr.common.constant import PARTITION_ID_KEY

from client_app.node_config import WARM_MINUTES
from regl_app.core.errors import ConfigError, ReglError, RunError
from regl_app.core.log import setup_logging
from regl_app.flower.deployment.orphans import end_with_parent

DEFAULT_MINUTES = 30


def perform(
    kind: str, content: RecordDict, context: Context, wanted_until: float | None = None
) -> RecordDict:
    """Return the reply's content to a request of ``kind`` query, adapter, train or evaluate.

    In a deployment Flower starts a process per message. There the work is done by a process that
    stays, with torch and the generator loaded; ``warm-minutes=0`` in the node's configuration
    turns that off.

    Args:
        wanted_until: Unix time after which the message is gone and a worker over it is killed.

    Raises:
        ReglError: the request cannot be carried out; names the node, in one line. Where it is no
            error of ours, a ``RunError`` that says which.
    """
    end_with_parent()
    try:
        return _perform(kind, content, context, wanted_until)
    except Exception as error:
        values = context.node_config
        name = values.get("name") or f"client {values.get(PARTITION_ID_KEY)}"
        told = _first_line(str(error))
        if isinstance(error, ReglError):
            raise type(error)(f"{name}: {told}") from error
        told = ": ".join(filter(None, (type(error).__name__, told)))
        raise RunError(f"{name}: {told}") from error


def _first_line(text: str) -> str:
    """Return an error's first line, with the second where that ends in ':'; the log has all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])


def _perform(
    kind: str, content: RecordDict, context: Context, wanted_until: float | None
) -> RecordDict:
    minutes = _warm_minutes(context)
    if minutes and Path(sys.argv[0]).name == "flwr-clientapp":
        from client_app.worker.client import WorkerUnavailableError, ask_worker

        try:
            # Flower's executor at the SuperNode started this process, and ends with it.
            owner, idle = os.getppid(), 60 * minutes
            return ask_worker(
                kind, content, context, owner=owner, idle_seconds=idle, wanted_until=wanted_until
            )
        except WorkerUnavailableError as error:
            setup_logging().log(
                logging.WARNING, "no warm worker (%s): this message is served without", error
            )
    from client_app.handlers import HANDLERS

    return HANDLERS[kind](content, context)


def _warm_minutes(context: Context) -> int:
    value = context.node_config.get(WARM_MINUTES, DEFAULT_MINUTES)
    if type(value) is not int or value < 0:
        raise ConfigError(
            f"{WARM_MINUTES} must be a whole number >= 0 in the node's configuration, got "
            f"{value!r} (0 = no process stays between messages)"
        )
    return value
