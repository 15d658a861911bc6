"""Digests of what all clients of a run must have alike, and what is wrong where one has not."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import ConfigRecord

from regl_app.flower.messages.fields import get_digest, table

ROWS, GENERATOR, DISTANCE = "rows", "generator.path", "supplement.distance"
IMAGE_ENCODER, IP_ADAPTER = "generator.image-encoder", "generator.ip-adapter"
_PREFIX = "alike."
_WORDS = {
    ROWS: "this node deals the images to the clients otherwise than the server, so that rows would "
    "be at two clients or at none: the files of data.path, the values of a column, or the versions "
    "of numpy or flwr-datasets are others here (regl partition --write on both machines shows "
    "which rows)",
    GENERATOR: "generator.path leads to another checkpoint here than {whose} (bring the same one "
    "to all nodes)",
    IMAGE_ENCODER: "generator.image-encoder leads to another encoder here than {whose} (bring the "
    "same one to all nodes)",
    IP_ADAPTER: "generator.ip-adapter leads to another file here than {whose} (bring the same one "
    "to all nodes)",
    DISTANCE: "supplement.distance leads to other weights here than {whose}: distances could not "
    "be compared (bring the same file to all nodes)",
}


def put_alike(record: ConfigRecord, digests: Mapping[str, str]) -> None:
    """Write digests by what they are of."""
    for key, digest in digests.items():
        record[_PREFIX + key] = digest


def get_alike(record: ConfigRecord) -> dict[str, str]:
    """Return the digests in ``record``.

    Raises:
        ProtocolError: one is none.
    """
    return {key: get_digest(record, _PREFIX + key) for key in table(record, _PREFIX)}


def difference(own: Mapping[str, str], wanted: Mapping[str, str], whose: str) -> str | None:
    """Return what is wrong where a node has something else than it must, and the remedy.

    Args:
        own: the node's digests; what it lacks is no difference.
        wanted: those that it must have.
        whose: these are, in words.
    """
    for key, words in _WORDS.items():
        if own.get(key) and wanted.get(key) and own[key] != wanted[key]:
            return words.format(whose=whose)
    return None


def agreed(told: Mapping[int, Mapping[str, str]], own: Mapping[str, str]) -> dict[str, str]:
    """Return what all must have: what the server has, else what most clients have.

    Of equally many it is that of the lowest client.

    Args:
        told: each client's digests.
        own: the server's.
    """
    found = {}
    for key in _WORDS:
        said = [each[key] for _, each in sorted(told.items()) if each.get(key)]
        if own.get(key) or said:
            found[key] = own.get(key) or max(said, key=said.count)
    return found
