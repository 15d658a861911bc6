"""Frames between a message's process and the warm worker: JSON, and Flower's own protobuf."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

from flwr.app import Context, RecordDict
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.proto.message_pb2 import Context as ProtoContext
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from regl_app.core import errors
from regl_app.core.errors import ReglError, RunError

LONGEST_WAIT = 1e6
"""Seconds; Python's sockets count theirs in milliseconds of 31 bits."""
_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True)
class WorkerRequest:
    """A request, and the digest of the code that is to carry it out."""

    kind: str
    code: str
    content: RecordDict
    context: Context


def send_request(connection: socket.socket, request: WorkerRequest) -> None:
    """Send ``request`` to a worker."""
    _send(connection, json.dumps({"kind": request.kind, "code": request.code}).encode())
    _send(connection, recorddict_to_proto(request.content).SerializeToString())
    _send(connection, context_to_proto(request.context).SerializeToString())


def receive_request(connection: socket.socket) -> WorkerRequest:
    """Return what :func:`send_request` sent.

    Raises:
        EOFError: the sender is gone.
    """
    header = json.loads(_receive(connection))
    content = recorddict_from_proto(ProtoRecordDict.FromString(_receive(connection)))
    context = context_from_proto(ProtoContext.FromString(_receive(connection)))
    return WorkerRequest(header["kind"], header["code"], content, context)


def send_taken(connection: socket.socket, taken: bool) -> None:
    """Tell that the request is begun now, or that this worker runs other code and ends."""
    _send(connection, json.dumps({"status": "taken" if taken else "other-code"}).encode())


def receive_taken(connection: socket.socket) -> bool:
    """Return what :func:`send_taken` told.

    Raises:
        EOFError: the worker ended, and has not begun.
    """
    return bool(json.loads(_receive(connection))["status"] == "taken")


def send_content(connection: socket.socket, content: RecordDict) -> None:
    """Send what came of a request."""
    _send(connection, json.dumps({"status": "done"}).encode())
    _send(connection, recorddict_to_proto(content).SerializeToString())


def send_error(connection: socket.socket, error: Exception) -> None:
    """Send why nothing came of a request."""
    answer = {"status": "failed", "type": type(error).__name__, "text": str(error)}
    _send(connection, json.dumps(answer).encode())


def receive_answer(connection: socket.socket) -> RecordDict:
    """Return what came of a request.

    Raises:
        ReglError: the worker's own error, as a :class:`RunError` where it is of no kind of ours.
        EOFError: the worker is gone.
    """
    header = json.loads(_receive(connection))
    if header["status"] == "failed":
        raise _error(header)
    return recorddict_from_proto(ProtoRecordDict.FromString(_receive(connection)))


def _error(header: dict[str, Any]) -> ReglError:
    kind = getattr(errors, header["type"], None)
    if isinstance(kind, type) and issubclass(kind, ReglError):
        return kind(header["text"])
    return RunError(f"{header['type']}: {header['text']}")


def _send(connection: socket.socket, payload: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(payload)))
    connection.sendall(payload)


def _receive(connection: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = connection.recv(min(length - len(received), 1 << 20))
        if not part:
            raise EOFError("the other end is gone")
        received += part
    return bytes(received)
