"""What every request opens with, so that no client works for a run that is not its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord

from regl_app.config import RunConfig
from regl_app.config.identity import result_keys
from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.alike import difference, get_alike, put_alike
from regl_app.flower.messages.fields import at_least, get, get_digest, shown, table

VERSION = 6
_FILE = "file."
_OTHERS = "at the server or most clients"


@dataclass(frozen=True)
class Handshake:
    """What both ends must share: code, configuration and files as digests, the number of clients.

    ``num_partitions`` is 0 as long as the server does not know it, in its first request. ``files``
    are the SHA-256 of the files that both read, by the keys that name them; ``alike`` returns the
    digests of what all clients must have alike, once the server knows them: a client is asked for
    its own only then. ``run`` is what the server calls the run, where clients have to know it from
    their first request on: which pictures of their own it began with.
    """

    code_hash: str
    config_digest: str
    num_partitions: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    alike: Callable[[], Mapping[str, str]] = dict
    run: str = ""

    def write(self, record: ConfigRecord) -> None:
        """Write the fields into ``record``."""
        record["version"] = VERSION
        record["code-hash"] = self.code_hash
        record["config-digest"] = self.config_digest
        record["num-partitions"] = self.num_partitions
        for key, digest in self.files.items():
            record[_FILE + key] = digest
        if self.run:
            record["run"] = self.run
        put_alike(record, self.alike())

    def check(self, record: ConfigRecord) -> None:
        """Raise :class:`ProtocolError` if the sender of ``record`` runs something else."""
        version = get(record, "version", int)
        if version != VERSION:
            raise ProtocolError(f"version must be {VERSION}, got {version} (update this node)")
        for key, mine, remedy in (
            ("code-hash", self.code_hash, "install the same version, or restart the SuperLink"),
            ("config-digest", self.config_digest, "give both the same run configuration"),
        ):
            seen = get(record, key, str)
            if seen != mine:
                raise ProtocolError(f"{key} must be {mine!r}, got {shown(seen)} ({remedy})")
        seen_files = {_FILE + key for key in table(record, _FILE)}
        for key in sorted(seen_files | {_FILE + key for key in self.files}):
            name = key.removeprefix(_FILE)
            theirs, own = get_digest(record, key), self.files.get(name, "")
            if theirs != own:
                raise ProtocolError(
                    f"{name} names a file that must be alike on all machines of a run: the "
                    f"server's has the SHA-256 {theirs[:16] or 'of none'}..., this node's "
                    f"{own[:16] or 'of none'}... (copy the server's to this node)"
                )
        total = at_least(record, "num-partitions", 0)
        if self.num_partitions and total and total != self.num_partitions:
            raise ProtocolError(
                f"num-partitions must be {total}, as in the others' configuration, got "
                f"{self.num_partitions} (flower-supernode --node-config 'num-partitions={total}')"
            )
        if (wanted := get_alike(record)) and (why := difference(self.alike(), wanted, _OTHERS)):
            raise ProtocolError(why)


def config_digest(config: RunConfig) -> str:
    """Return a short hex digest of the keys of ``config`` that results depend on.

    A run that goes on with others is the same one to its clients: they find what they kept.
    """
    text = json.dumps(result_keys(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
