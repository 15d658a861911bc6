"""What ``regl doctor`` finds out about a machine that is to be a node or to serve one."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regl_app.cli.doctor.certificates import examine_keys, examine_private_key
from regl_app.cli.doctor.finding import FREE_DISK_GB, Finding, unread
from regl_app.cli.doctor.link import Link
from regl_app.cli.doctor.machine import machine
from regl_app.cli.doctor.superlink import examine_link
from regl_app.config import RunConfig


@dataclass(frozen=True)
class Deployment:
    """What of a deployment is to be looked at; what is None is not.

    ``data_root`` are the folders, joined by ':', that images may lie in; '': ``data_dir`` alone.
    """

    link: Link | None = None
    keys: Path | None = None
    key: Path | None = None
    port: int | None = None
    state_dir: Path | None = None
    data_dir: Path | None = None
    data_root: str = ""

    def __bool__(self) -> bool:
        return self != Deployment()


def examine_deployment(wanted: Deployment, config: RunConfig) -> Iterator[Finding]:
    """Yield what was found, in reading order: this machine, then what it is to do."""
    yield from machine(config)
    if wanted.keys is not None:
        yield from examine_keys(wanted.keys)
    if wanted.key is not None:
        yield examine_private_key("node key", wanted.key, public=_public_beside(wanted.key))
    if wanted.link is not None:
        yield from examine_link(wanted.link)
    if wanted.port is not None:
        yield _port(wanted.port)
    if wanted.state_dir is not None:
        yield _state(wanted.state_dir)
    if wanted.data_dir is not None:
        yield _images(wanted.data_dir, wanted.data_root, config)


def _public_beside(key: Path) -> Path | None:
    """Return the key's public half if it is there; a node needs none."""
    public = key.with_name(f"{key.name}.pub")
    return public if public.exists() else None


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            detail = f"port {port} of this machine cannot be had: {error.strerror}"
            remedy = "right if this node's SuperNode runs already; else flower-supernode --port ..."
            return Finding("local port", "note", detail, remedy)
    return Finding("local port", "ok", f"port {port} of this machine is free")


def _state(folder: Path) -> Finding:
    topic = "state-dir"
    if not folder.is_absolute():
        remedy = "flower-supernode --node-config 'state-dir=\"/srv/...\"'"
        return Finding(topic, "fail", f"{folder} must be an absolute path", remedy)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        detail = f"{existing} is no folder that this user may write to"
        return Finding(topic, "fail", detail, "chown it to the user of the SuperNode")
    free = shutil.disk_usage(existing).free / 1e9
    detail = f"{folder}{'' if existing == folder else ' (to be made)'}, {free:.0f} GB free"
    if free < FREE_DISK_GB:
        return Finding(topic, "note", detail, f"keep {FREE_DISK_GB:.0f} GB free")
    return Finding(topic, "ok", detail)


def _images(folder: Path, root: str, config: RunConfig) -> Finding:
    """Read a site's images as a run would that has data.source='site' and data.classes."""
    from regl_app.core.allowed_folders import AllowedFolders
    from regl_app.core.errors import ReglError
    from regl_app.data.sources.site import SiteFolder, load_site

    topic = "data-dir"
    if not config.data.local:
        detail = f"{folder} was not read: for which classes?"
        return Finding(topic, "note", detail, "regl doctor ... data.source=site data.classes=a,b")
    try:
        roots = AllowedFolders.parse(root)
        if not roots.folders:  # as at a node
            roots = AllowedFolders((folder.resolve(),))
        site = SiteFolder(folder, roots)
        shares = config.partition.test_fraction, config.validation.fraction
        found = load_site(site, config.data, 0, *shares)
    except ReglError as error:
        return Finding(topic, "fail", str(error))
    classes = config.data.class_names
    counts = found.train.counts(len(classes))
    held = [f"{name} {count}" for name, count in zip(classes, counts, strict=True) if count]
    detail = f"{len(found.train)} training and {len(found.test)} test images: {', '.join(held)}"
    missed = unread(found.unreadable, found.left_out)
    sound = len(found.train) > 0 and not missed
    return Finding(topic, "ok" if sound else "note", detail + missed)
