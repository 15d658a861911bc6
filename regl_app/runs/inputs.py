"""What a run read, as its folder says, compared with what is there by now."""

from __future__ import annotations

from dataclasses import dataclass

from regl_app.config import RunConfig
from regl_app.config.paths import with_absolute_paths
from regl_app.core.app_code import own_code_hash
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.data.run_files import RunFiles
from regl_app.generator.hub_checkpoint import UNKNOWN
from regl_app.generator.identity import identity_of
from regl_app.runs.folder import CODE, DATA, GENERATOR, RunFolder


@dataclass(frozen=True)
class Change:
    """What ``was`` there of ``which`` when the run began, and what is there ``now``."""

    which: str
    was: str
    now: str

    @property
    def words(self) -> str:
        """Return all of it, for an error."""
        return (
            f"{self.which} changed since the run began (it had {self.was}; now "
            f"{self.now or 'none'})"
        )


def files_change(folder: RunFolder, config: RunConfig, state: str) -> Change | None:
    """Return how the data set's files have changed, None if they have not, or nothing says so.

    Args:
        folder: the run's.
        config: the run's.
        state: what ``RunFiles.words`` says now.
    """
    was = folder.read_environment().get(DATA)
    if was is None or was == state:
        return None
    given = f" or partition.file={config.partition.file!r}" if config.partition.file else ""
    read = f"data.source={config.data.source!r}, data.path={config.data.path!r}{given}"
    return Change(f"the files of {read} have", was, state)


def generator_change(folder: RunFolder, config: RunConfig) -> Change | None:
    """Return how the generator has changed, None if it has not, is not here, or nothing says so."""
    was = folder.read_environment().get(GENERATOR, UNKNOWN)
    if not config.needs_generator or UNKNOWN in was:
        return None
    now = identity_of(with_absolute_paths(config))
    if now == was or UNKNOWN in now:
        return None
    which = f"generator.path={config.generator.path!r}, or what reads pictures for it, has"
    return Change(which, was, now)


def check_unchanged(folder: RunFolder, config: RunConfig) -> None:
    """Refuse to make a run's images again from other files than it had.

    A warning says where the code is another one, or the folder does not say what the run had.

    Args:
        folder: the run's.
        config: the run's, its paths absolute.

    Raises:
        DataError: which files there are cannot be told.
        RunError: data or generator have changed since the run began.
    """
    state = RunFiles.of(config.data, config.partition).words
    told = "the synthetic images cannot be made again: "
    if changed := files_change(folder, config, state):
        raise RunError(
            f"{told}{changed.words}: others would be drawn (put them back with their times)"
        )
    if changed := generator_change(folder, config):
        raise RunError(f"{told}{changed.words}: others would be drawn (put it back)")
    environment = folder.read_environment()
    unknown = [
        what
        for what, is_unknown in (
            ("files", bool(state) and DATA not in environment),
            ("generator", UNKNOWN in environment.get(GENERATOR, UNKNOWN)),
            ("code", CODE not in environment),
        )
        if is_unknown
    ]
    if unknown:
        logger.warning(
            "%s does not say which %s the run had: its images are those that it trained on only "
            "if nothing of that has changed",
            folder.path,
            " and ".join(unknown),
        )
    if environment.get(CODE, own_code_hash()) != own_code_hash():
        logger.warning(
            "%s was made by other code of this app than there is now: where that draws otherwise, "
            "its images are others than it trained on",
            folder.path,
        )
