"""All trackers of a run together: what they are told, and that none of them can stop the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from regl_app.core.array_files import Array
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.runs.confusions import FILE as CONFUSION
from regl_app.runs.confusions import confusions_of
from regl_app.runs.kept import kept_record, kept_words
from regl_app.runs.records import RoundRecord, RunResult
from regl_app.runs.round_numbers import client_tag
from regl_app.runs.samples import load_samples, sample_files, sample_grid
from server_app.trackers.confusion_picture import confusion_picture
from server_app.trackers.scalars import kept_scalars, round_scalars
from server_app.trackers.tracker import Status, TrackedRun, Tracker

_FILES = (
    "config.json",
    "federation.json",
    "history.jsonl",
    CONFUSION,
    "result.json",
    "report.html",
)


class Trackers:
    """Tells ``trackers`` of a run from `begin` to the end of its ``with`` block.

    One that fails is left alone from then on, with a warning: the history has the same numbers.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)
        self._run: TrackedRun | None = None
        self._shown: set[int] = set()
        self._told: dict[str, int] = {}
        """By tracker, the last round whose numbers it has taken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._run is None:
            return
        status: Status = "finished" if error is None else "failed"
        if error is not None and not isinstance(error, Exception):  # SystemExit by Flower, Ctrl-C
            status = "stopped"
        self._catch_up(self._run)
        if status != "stopped":  # there is no time left for what may be long
            self._leave(self._run)
        self._each(lambda tracker: tracker.end(status))
        self._run = None

    def begin(self, run: TrackedRun) -> None:
        """Open all trackers."""
        self._run = run
        self._told = dict.fromkeys(self._trackers, run.first_round - 1)
        self._each(lambda tracker: tracker.begin(run))

    def add(self, record: RoundRecord) -> None:
        """Tell one round's numbers, and pictures that have appeared since the last."""
        if self._run is None or not self._trackers:
            return
        self._numbers(self._run, record)
        folder = self._run.folder.path
        self._prepared("sample pictures", lambda: self._show(folder, record.round))

    def _numbers(self, run: TrackedRun, record: RoundRecord) -> None:
        """Tell one round's numbers to those that have not taken them."""
        values = round_scalars(record, run.facts.class_names)
        for name in [each for each in self._trackers if self._told[each] < record.round]:
            self._tell(name, lambda tracker: tracker.scalars(values, record.round))
            self._told[name] = record.round

    def _catch_up(self, run: TrackedRun) -> None:
        """Tell what the history has and a tracker has not: a run may end between the two."""
        if not self._trackers:
            return

        def missed() -> None:
            for record in run.folder.read_history():
                self._numbers(run, record)

        self._prepared("the last round's numbers", missed)

    def _show(self, folder: Path, number: int) -> None:
        for name, pixels in self._new_samples(folder):
            self._picture(name, pixels, number)

    def _new_samples(self, folder: Path) -> Iterator[tuple[str, Array]]:
        """Yield one client's pictures at a time: together those of many clients are large."""
        for client, path in sample_files(folder).items():
            if client not in self._shown:
                self._shown.add(client)
                try:
                    yield f"samples/{client_tag(client)}", sample_grid(load_samples(path))
                except RunError as error:
                    logger.warning("the trackers go without sample pictures: %s", error)

    def _leave(self, run: TrackedRun) -> None:
        """Tell the kept model's numbers, what it confuses, and hand over the run's files."""
        if not self._trackers:
            return
        self._prepared("the kept model's numbers", lambda: self._kept(run))
        self._prepared("what was taken for what", lambda: self._confused(run))
        paths = [path for name in _FILES if (path := run.folder.path / name).is_file()]
        self._each(lambda tracker: tracker.files(paths))

    def _kept(self, run: TrackedRun) -> None:
        """Tell the numbers of the model that the run keeps, where that need not be the last's.

        Trackers take the last value of a name for the run's own.
        """
        result = run.folder.read_result()
        record = kept_record(run.folder.read_history(), result)
        if record is None or not kept_words(result):
            return
        values = kept_scalars(record)
        self._each(lambda tracker: tracker.scalars(values, record.round))

    def _confused(self, run: TrackedRun) -> None:
        best, kept = _rounds(run.folder.read_result())
        found = confusions_of(run.folder.read_history(), run.folder.path, best)
        if found is not None:
            shown = found.kept(kept)
            picture = confusion_picture(shown.counts, run.facts.class_names)
            self._picture("confusion/global", picture, shown.round)

    def _prepared(self, what: str, show: Callable[[], None]) -> None:
        """Show what has to be read or drawn first; what fails of that costs the trackers it."""
        try:
            show()
        except Exception as error:  # a drawing, say, is no reason to stop either
            why = str(error) or type(error).__name__
            logger.warning("the trackers go without %s: %s", what, why)

    def _picture(self, name: str, pixels: Array, number: int) -> None:
        self._each(lambda tracker: tracker.picture(name, pixels, number))

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name in list(self._trackers):
            self._tell(name, tell)

    def _tell(self, name: str, tell: Callable[[Tracker], None]) -> None:
        try:
            tell(self._trackers[name])
        except Exception as error:  # whatever another's code raises is no reason to stop
            del self._trackers[name]
            why = str(error) or type(error).__name__
            logger.warning("%s: no longer written, the run goes on: %s", name, why)


def _rounds(result: RunResult | None) -> tuple[int | None, int | None]:
    """Return the best round by validation images and the kept one; None where none was chosen."""
    return (None, None) if result is None else (result.best_round, result.model_round)
