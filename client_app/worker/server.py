"""A node's process that stays between messages: torch imported, generator and data loaded."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from client_app.worker.wire_format import (
    LONGEST_WAIT,
    WorkerRequest,
    receive_request,
    send_content,
    send_error,
    send_taken,
)
from regl_app.core.app_code import own_code_hash
from regl_app.core.cards import card_lost, share_cards
from regl_app.core.log import setup_logging
from regl_app.core.processes import started_at
from regl_app.flower.code_hash import named_code_hash

_LOOK_SECONDS = 0.5


def serve(path: Path, owner: int, begun: str, idle_seconds: float) -> None:
    """Carry out requests that come to the socket at ``path``, one after the other.

    Ends after ``idle_seconds`` without one, when a newer code asks, or when its GPU has failed for
    good. The whole process ends with process ``owner``, which started at ``begun``, by
    :func:`regl_app.core.processes.started_at`, and when whoever sent the request at hand
    is gone: nobody would take its result, and files are written whole or not at all.
    """
    _end_with(owner, begun)
    own_code_hash()  # which takes a while, is known before anybody asks
    retired = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        path.unlink(missing_ok=True)  # of one that was killed
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(min(idle_seconds, LONGEST_WAIT))

        def retire() -> None:
            """Let nobody find this worker once it has said that it ends."""
            retired.set()
            path.unlink(missing_ok=True)
            listener.close()

        while not retired.is_set():
            try:
                line, _ = listener.accept()
            except TimeoutError:
                break
            with line, suppress(EOFError, ConnectionError):
                line.setblocking(True)
                request = receive_request(line)
                model = str(request.context.run_config.get("model.name", ""))
                ours = request.code == named_code_hash(model)
                if not ours:
                    retire()
                send_taken(line, ours)
                if ours:
                    _carry_out(line, request, retire)
        if not retired.is_set():  # else the path is another worker's by now
            path.unlink(missing_ok=True)


def _carry_out(line: socket.socket, request: WorkerRequest, retire: Callable[[], None]) -> None:
    """Answer the request; ``retire`` before that if its error is any later request's, too."""
    from client_app.handlers import HANDLERS

    done = threading.Event()
    threading.Thread(target=_end_without_sender, args=(line, done), daemon=True).start()
    try:
        content = HANDLERS[request.kind](request.content, request.context)
    except Exception as error:  # whatever it is, the sender replies with it; it is logged already
        done.set()
        if card_lost():
            retire()
        send_error(line, error)
        return
    done.set()
    send_content(line, content)


def _end_without_sender(line: socket.socket, done: threading.Event) -> None:
    while not done.is_set():
        try:
            readable, _, _ = select.select([line], [], [], _LOOK_SECONDS)
            # It sends nothing more, so there is only its end to read.
            gone = bool(readable) and not line.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):  # reset by its end, or closed here as the request is done
            gone = True
        if gone and not done.is_set():
            os._exit(1)


def _end_with(owner: int, begun: str) -> None:
    def look() -> None:
        while started_at(owner) == begun:
            time.sleep(_LOOK_SECONDS)
        os._exit(0)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    setup_logging()
    share_cards(Path(sys.argv[1]).parent)
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
