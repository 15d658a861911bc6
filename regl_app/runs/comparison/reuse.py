"""Which finished run of a comparison's folder is one that it needs, and why one is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from regl_app.config import RunConfig
from regl_app.config.named_code import named_code
from regl_app.config.sections import DataConfig, ModelConfig, PartitionConfig
from regl_app.core.app_code import own_code_hash
from regl_app.core.errors import ConfigError, DataError
from regl_app.core.log import logger
from regl_app.runs.comparison.outcome import Files, Outcome

_TOLD = 5


@dataclass(frozen=True)
class Wanted:
    """A run that a comparison needs.

    ``settings`` are what its result depends on beside code and files, ``files`` those; None if
    their state cannot be told.
    """

    name: str
    digest: str
    settings: Mapping[str, object]
    files: Files | None


@dataclass
class States:
    """The states of runs' files as they are now, each looked at once."""

    known: dict[tuple[DataConfig, PartitionConfig, ModelConfig, str], Files | None] = field(
        default_factory=dict
    )

    def of(self, config: RunConfig) -> Files | None:
        """Return the state of a run's files; None, with a line in the log, if nobody can say.

        Args:
            config: the run's, its paths absolute.
        """
        from regl_app.data.run_files import RunFiles
        from regl_app.learning.models.pretrained import weights_digest

        which = config.data, config.partition, config.model, config.objective
        if which not in self.known:
            try:
                data = RunFiles.of(config.data, config.partition).words
                code = named_code(config.model.name, config.objective)
                self.known[which] = Files(data, weights_digest(config.model), code)
            except (DataError, ConfigError, OSError) as error:
                logger.warning("whether a run's files have changed cannot be told: %s", error)
                self.known[which] = None
        return self.known[which]


def reusable(wanted: Wanted, finished: Sequence[Outcome]) -> Outcome | None:
    """Return the latest of the ``finished`` runs with the same settings and files.

    A run whose folder does not say which files it saw, as earlier versions left it, counts as one
    with the same files unless another in the folder shows that they have changed. Why a run of that
    name cannot be reused is logged.
    """
    same = [each for each in finished if each.digest == wanted.digest]
    now = wanted.files
    if now is None and same:
        return same[-1]
    others = [each for each in same if now and each.files.contradict(now)]
    silent = [each for each in same if now and each.files.say_less(now) and each not in others]
    exact = [each for each in same if each not in (*others, *silent)]
    if exact:
        return exact[-1]
    if others:
        last = others[-1]
        logger.info(
            "%s runs again: its files have changed since %s (%s; now %s)",
            wanted.name,
            last.folder,
            last.files.words,
            now.words if now else "",
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
        if found is not None and each.files and found.files.say_less(each.files)
    ]
    if silent:
        logger.warning(
            "%d reused runs do not say which files they saw, as an earlier version made them: if "
            "pictures, labels or weights have changed since, remove their folders (%s)",
            len(silent),
            _few(silent),
        )


def tell_other_code(reused: Sequence[Outcome | None]) -> None:
    """Say which ``reused`` runs another state of this app made, whose changes do not show there."""
    other = [each.folder for each in reused if each and each.code not in ("", own_code_hash())]
    if other:
        logger.warning(
            "%d reused runs were made by another state of this app's code: to have them by the "
            "present one, remove their folders (%s)",
            len(other),
            _few(other),
        )


def _few(folders: Sequence[str]) -> str:
    return ", ".join(folders[:_TOLD]) + (", ..." if folders[_TOLD:] else "")


def _differences(was: Mapping[str, object], now: Mapping[str, object]) -> str:
    keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    told = [f"{key}={was.get(key)!r} (now {now.get(key)!r})" for key in keys[:_TOLD]]
    return ", ".join(told) + (f" and {len(keys) - _TOLD} more" if keys[_TOLD:] else "")
