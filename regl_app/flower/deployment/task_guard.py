"""``regl-task``: Flower's program for a message, held to app bundles that an operator installed.

A SuperNode starts ``flwr-clientapp`` by name for each message, and that unpacks the bundle that the
SuperLink sent and imports it. Where ``$FLWR_HOME/apps`` is not the node's to write, a bundle that
is not there cannot be unpacked. But Flower 1.41 makes the folder's name from texts of the bundle
and of the SuperLink, ``..`` and all, so that it also unpacks elsewhere and imports from there. So
the operator links the names of Flower's programs, in a folder that comes first in PATH, to this
one: it runs Flower's in this process, with a finder in front that lets code be imported only from
bundles in that folder, and only while this user can change neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

CLIENT = "flwr-clientapp"
OTHERS = ("flwr-agentapp", "flwr-connector", "flwr-model", "flwr-serverapp", "flwr-simulation")
"""What else a SuperNode would start if its SuperLink asked for it; it serves us for nothing."""


class AllowedCodeOnly(MetaPathFinder):
    """Refuses to import while ``sys.path`` leads to a folder that the operator did not allow.

    What is on ``sys.path`` when it is made is the operator's: the environment of the SuperNode.

    Args:
        apps: the folder of bundles, ``$FLWR_HOME/apps``.
    """

    def __init__(self, apps: Path) -> None:
        self._apps = apps.resolve()
        self._known = set(sys.path)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing: leave it to the other finders, or refuse.

        Raises:
            ImportError: ``sys.path`` leads elsewhere; that entry is taken out.
        """
        for entry in [entry for entry in sys.path if entry not in self._known]:
            why = self._refusal(Path(entry).resolve())
            if why:
                # Flower still has to send the error, with modules that it imports then.
                sys.path.remove(entry)
                raise ImportError(f"{fullname}: this node runs no code from {entry}: {why}")
            self._known.add(entry)
        return None

    def _refusal(self, folder: Path) -> str | None:
        if folder.parent != self._apps:
            return f"it is no bundle that the operator put into {self._apps}"
        for place in (self._apps, folder, *folder.rglob("*")):
            if not is_locked(place):
                return f"the node's own user could change {place}"
        return None


def is_locked(place: Path) -> bool:
    """Return whether this process's user can neither write a file or folder nor allow itself to."""
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return True
    return place.stat().st_uid != os.geteuid() and not os.access(place, os.W_OK)


def main() -> None:
    """Run Flower's program of the name by which this one was called; exit 1 if that is refused."""
    name = Path(sys.argv[0]).name
    home = os.environ.get("FLWR_HOME")
    if name != CLIENT:
        sys.exit(f"{name}: this node runs ClientApps only (regl-task has to be called {CLIENT})")
    if not home:
        sys.exit(f"{name}: FLWR_HOME has to name the folder whose apps/ this node may run")
    if "--allow-runtime-dependency-installation" in sys.argv:
        sys.exit(f"{name}: a bundle's dependencies would be code that nobody allowed")
    _forget_own_package()
    sys.meta_path.insert(0, AllowedCodeOnly(Path(home) / "apps"))
    (program,) = entry_points(group="console_scripts", name=name)
    sys.exit(program.load()())


def _forget_own_package() -> None:
    """Let the bundle's copy of this package be imported, not the rest of the installed one."""
    top = __name__.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[name]
