"""Which finished run of a comparison's folder is one that it needs, and why one is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig, PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.log import logger
from regl_app.runs.comparison.outcome import Outcome

_TOLD = 5


@dataclass(frozen=True)
class Wanted:
    """A run that a comparison needs.

    ``settings`` are what its result depends on beside code and data, ``data`` the state of the
    files that decide who has which image (``RunFiles.words``): '' if there are none, None if it
    cannot be told.
    """

    name: str
    digest: str
    settings: Mapping[str, object]
    data: str | None


@dataclass
class States:
    """The states of runs' files as they are now, each looked at once."""

    known: dict[tuple[DataConfig, PartitionConfig], str | None] = field(default_factory=dict)

    def of(self, config: RunConfig) -> str | None:
        """Return the state of a run's files; None, with a line in the log, if nobody can say.

        Args:
            config: the run's, its paths absolute.
        """
        from regl_app.data.run_files import RunFiles

        which = config.data, config.partition
        if which not in self.known:
            try:
                self.known[which] = RunFiles.of(*which).words
            except DataError as error:
                logger.warning("whether pictures have changed cannot be told: %s", error)
                self.known[which] = None
        return self.known[which]


def reusable(wanted: Wanted, finished: Sequence[Outcome]) -> Outcome | None:
    """Return the latest of the ``finished`` runs with the same settings and files.

    A run whose folder does not say which files it saw, as earlier versions left it, counts as one
    with the same files unless another in the folder shows that they have changed. Why a run of that
    name cannot be reused is logged.
    """
    same = [each for each in finished if each.digest == wanted.digest]
    if not wanted.data and same:
        return same[-1]
    exact = [each for each in same if each.data == wanted.data]
    silent = [each for each in same if each.data is None]
    others = [each for each in same if each.data not in (None, wanted.data)]
    if exact:
        return exact[-1]
    if others:
        last = others[-1]
        logger.info(
            "%s runs again: its data's files have changed since %s (%s; now %s)",
            wanted.name,
            last.folder,
            last.data,
            wanted.data,
        )
        return None
    if silent:
        return silent[-1]
    namesakes = [each for each in finished if each.name == wanted.name]
    if namesakes:
        last = namesakes[-1]
        logger.info(
            "%s runs: %s has other settings: %s",
            wanted.name,
            last.folder,
            _differences(last.settings, wanted.settings),
        )
    return None


def tell_silent(wanted: Sequence[Wanted], reused: Sequence[Outcome | None]) -> None:
    """Say of which ``reused`` runs nobody knows whether their files are the same."""
    silent = [
        found.folder
        for each, found in zip(wanted, reused, strict=True)
        if found is not None and found.data is None and each.data
    ]
    if silent:
        logger.warning(
            "%d reused runs do not say which files they saw, as an earlier version made them: if "
            "pictures or labels have changed since, remove their folders (%s)",
            len(silent),
            ", ".join(silent[:_TOLD]) + (", ..." if silent[_TOLD:] else ""),
        )


def _differences(was: Mapping[str, object], now: Mapping[str, object]) -> str:
    keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    told = [f"{key}={was.get(key)!r} (now {now.get(key)!r})" for key in keys[:_TOLD]]
    return ", ".join(told) + (f" and {len(keys) - _TOLD} more" if keys[_TOLD:] else "")
