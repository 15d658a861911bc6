"""What a node's operator sees of its client: who, round and phase in the log, and metrics."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from flwr.app import Context, RecordDict

from regl_app.config import RunConfig
from regl_app.config.paths import cache_dir
from regl_app.core.activity import Activity, activity
from regl_app.core.errors import ReglError
from regl_app.core.formats import format_seconds
from regl_app.core.log import FORMATS, is_deployed, logger, setup_logging
from regl_app.core.torch_defaults import plain_torch
from regl_app.flower.deployment.exposition import FILE
from regl_app.flower.deployment.node_metrics import record_message
from regl_app.flower.messages.content import OURS

Handler = Callable[[RecordDict, Context], RecordDict]


def node_name(context: Context) -> str:
    """Return the client's name in logs: the site's, else ``client <partition-id>``."""
    name = str(context.node_config.get("name") or "").strip()
    plain = re.sub(r"[^\w.@-]+", "-", name)
    return plain or f"client {context.node_config.get('partition-id', '?')}"


def monitored(kind: str, handler: Handler) -> Handler:
    """Return ``handler`` with log lines and metrics that say whose, of which round and phase.

    At its end other processes may have what of a GPU's memory this one has reserved and does not
    use: PyTorch keeps all that a turn took at its most, and the next turn may be anybody's.
    ``kind`` is the phase that it begins with. An error is logged at the node too; in a simulation,
    where node and server share a terminal, the server says it.
    """

    @plain_torch()
    def perform(content: RecordDict, context: Context) -> RecordDict:
        wanted = str(context.run_config.get("log-format", "auto"))
        setup_logging(wanted if wanted in FORMATS else "auto")
        ok = False
        with activity(node_name(context), kind, _round(content)) as done:
            try:
                reply = handler(content, context)
                ok = True
                if is_deployed():  # at a terminal it would be a line per client
                    done.close_phase()
                    done.phase = kind
                    logger.info("answered: %s", _summary(done))
                return reply
            except Exception as error:
                level = logging.ERROR if is_deployed() else logging.DEBUG
                trace = None if isinstance(error, ReglError) else error
                logger.log(level, "failed: %s: %s", type(error).__name__, error, exc_info=trace)
                raise
            finally:
                done.close_phase()
                _count(context, done, ok=ok)
                with suppress(RuntimeError):  # of a card that has failed, as is raised already
                    torch.cuda.empty_cache()  # without CUDA, nothing

    return perform


def _summary(done: Activity) -> str:
    """Return what was done and how long each part took."""
    parts = [f"{name} {format_seconds(took)}" for name, took in done.seconds.items()]
    counts = [f"{count} {name.replace('_', ' ')}" for name, count in done.counts.items()]
    return ", ".join([*counts, *parts])


def _count(context: Context, done: Activity, *, ok: bool) -> None:
    """Write the node's metrics: into its state folder, else below the cache of a deployment.

    A simulation's clients have neither an operator nor a folder of their own.
    """
    own = context.node_config.get("state-dir")
    if isinstance(own, str) and own:
        state = Path(own).expanduser()
        path = state / FILE
    elif is_deployed():
        try:
            state = cache_dir(RunConfig.from_flat(context.run_config))
        except ReglError:
            return  # the reason why the message failed
        path = state / "metrics" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', done.who)}.prom"
    else:
        return
    try:
        record_message(path, state, done, ok=ok)
    except OSError as error:
        logger.warning("%s: metrics cannot be written: %s", path, error)


def _round(content: RecordDict) -> int:
    """Return the request's round, 0 if it has none; it is checked where it is used."""
    ours = content.config_records.get(OURS)
    number = ours.get("round") if ours is not None else None
    return number if type(number) is int else 0
