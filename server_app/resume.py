"""Going on with an interrupted run from its last complete round."""

from __future__ import annotations

from pathlib import Path

from regl_app.config import RunConfig
from regl_app.config.identity import result_keys
from regl_app.config.paths import with_absolute_paths
from regl_app.core.errors import ConfigError, RunError
from regl_app.core.log import logger
from regl_app.runs.folder import DATA, Checkpoint, RunFolder
from regl_app.runs.inputs import files_change, generator_change
from regl_app.runs.records import RoundRecord


def open_run(config: RunConfig, out_dir: Path, resume: Path | None) -> RunFolder:
    """Return a new run folder below ``out_dir``, or the one at ``resume`` to go on with.

    Raises:
        ConfigError: the run at ``resume`` has another configuration; names the keys.
        RunError: there is no run, it is finished, or it had another generator.
    """
    if resume is None:
        return RunFolder.create(config, out_dir)
    folder = RunFolder.open(resume)
    before = folder.read_config()
    was, now = (with_absolute_paths(each).to_flat() for each in (before, config))
    needed = result_keys(before).keys() | result_keys(config).keys()
    changed = [key for key in now if key in needed and now[key] != was[key]]
    if changed:
        listed = ", ".join(f"{key}={now[key]!r} (was {was[key]!r})" for key in changed)
        raise ConfigError(
            f"resume={config.resume!r} goes on with that run's configuration, got {listed}; leave "
            "these as they were (config.json of the run folder), or start a new run"
        )
    refuse_finished(folder)
    check_generator(folder, config)
    return folder


def refuse_finished(folder: RunFolder) -> None:
    """Raise where the run has come to its end.

    Raises:
        RunError: it has.
    """
    result = folder.read_result()
    if result is not None and result.status == "finished":
        raise RunError(
            f"resume={str(folder.path)!r}: that run is finished, nothing is left to do "
            "(start a new one)"
        )


def check_generator(folder: RunFolder, config: RunConfig) -> None:
    """Compare the generator with the one that a run, which is to go on, began with.

    Where the server has it not, nobody knows: each client compares its own with the others'.

    Raises:
        RunError: it is another one.
    """
    if changed := generator_change(folder, config):
        raise RunError(
            f"resume={config.resume!r}: {changed.words}: later rounds would train on another "
            "one's images (put it back, or start a new run)"
        )


def note_files(folder: RunFolder, state: str, config: RunConfig) -> None:
    """Keep with a run in which state the files are that its server reads; compare one that goes on.

    Args:
        folder: the run's.
        state: what ``RunFiles.words`` says now.
        config: the run's.

    Raises:
        RunError: the run began with other files than there are now.
    """
    was, changed = folder.read_environment().get(DATA), files_change(folder, config, state)
    if config.resume and changed:
        raise RunError(
            f"resume={config.resume!r}: {changed.words}: its clients would get other images (put "
            "them back with their times, or start a new run)"
        )
    if config.resume and was is None and state:
        logger.warning(
            "%s does not say which files the run began with, as an earlier version made it: it "
            "goes on with those that are there",
            folder.path,
        )
    if state and was != state:
        folder.note(DATA, state)


def last_complete_round(folder: RunFolder) -> Checkpoint | None:
    """Return what the last complete round left, None if there is none: all rounds are to be done.

    Raises:
        RunError: what it left is damaged.
    """
    found = folder.read_checkpoint()
    if found is None:
        logger.info("no round of this run was complete: it begins with the first")
    else:
        logger.info("goes on after round %d, the last complete one", found.round)
    return found


def check_number(folder: RunFolder, num_clients: int) -> None:
    """Refuse to go on with another number of clients.

    Raises:
        RunError: the run had another one.
    """
    facts = folder.read_facts()
    if facts is not None and facts.num_clients != num_clients:
        raise RunError(
            f"{folder.path}: the run had {facts.num_clients} clients, now there are {num_clients} "
            "(num-partitions of the nodes, --clients of regl run)"
        )


def record_of(folder: RunFolder, number: int) -> RoundRecord:
    """Return round ``number`` of the history, which was written before the round's checkpoint.

    Raises:
        RunError: it is not there.
    """
    for record in folder.read_history():
        if record.round == number:
            return record
    raise RunError(
        f"{folder.path / 'history.jsonl'}: round {number} is missing, but it has a checkpoint: "
        "restore the file from a backup, or start a new run"
    )
