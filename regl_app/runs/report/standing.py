"""Who ends above whom, paired by seed and split, and where that may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from regl_app.core.formats import percent
from regl_app.runs.report.conditions import Condition
from regl_app.runs.statistics import Interval, mean_interval, paired

Ends = dict[tuple[int, int], float]
"""Accuracy by seed of the run and seed of its data, of runs that finished."""

_NAMED = 3


@dataclass(frozen=True)
class Gap:
    """By how much one configuration ends above another, over the seeds that both have.

    ``base`` is the other's mean over these; ``part`` whether one of the two has more.
    """

    points: Interval
    base: float
    part: bool

    @property
    def sure(self) -> bool:
        """Return whether the interval lies above zero; that of a single pair is unknown."""
        return self.points.half is not None and self.points.mean > self.points.half

    @property
    def level(self) -> bool:
        """Return whether nothing of it is left at the digits shown."""
        return all(round(abs(100 * each), 1) == 0 for each in (self.points.mean, self.half))

    @property
    def half(self) -> float:
        """Return half of the interval, 0 of a single pair."""
        return self.points.half or 0.0


@dataclass(frozen=True)
class Standing:
    """Where configurations ended, by label, and which is at or above every other that competes.

    ``best`` is None where nothing has ended, or too few seeds and splits are in common to say.
    ``gaps`` are those of ``best`` to the others, as far as they have seeds in common. ``where``
    says where accuracies are measured, '' if of the global model.
    """

    ends: Mapping[str, Ends]
    best: str | None
    rivals: tuple[str, ...]
    gaps: Mapping[str, Gap]
    where: str = ""

    def mean(self, label: str) -> float:
        """Return the mean accuracy of all runs of a configuration that has ended."""
        return mean_interval(list(self.ends[label].values())).mean

    @property
    def leads(self) -> bool:
        """Return whether the best is above every other one beyond chance."""
        return self.best is not None and all(self.gaps[each].sure for each in self.rivals)

    @property
    def parted(self) -> bool:
        """Return whether it has other seeds than a rival, so that their means do not compare."""
        return any(self.gaps[each].part for each in self.rivals)

    @property
    def ahead(self) -> bool:
        """Return whether it is, as far as can be seen: by a single run of each, above at all."""
        return self.best is not None and all(
            gap.sure or (gap.points.half is None and not gap.level)
            for gap in (self.gaps[each] for each in self.rivals)
        )


def standing(groups: Sequence[Condition]) -> Standing:
    """Return how ``groups``, all on the same data, stand to one another.

    'central', the reference, competes with nobody. Where one that has finished has no whole
    global model, all are compared by the accuracies at their clients.
    """
    whole = all(group.whole for group in groups if group.finished)
    found = {group.label: ends for group in groups if (ends := _ends(group, whole))}
    racing = [g.label for g in groups if not g.runs[0].config.central and g.label in found]
    racing = racing or list(found)
    all_gaps = {one: _gaps(found, one) for one in racing}
    ahead = [
        one
        for one, gaps in all_gaps.items()
        if all(each in gaps and gaps[each].points.mean >= 0 for each in racing if each != one)
    ]
    best = max(ahead, key=lambda one: mean_interval(list(found[one].values())).mean, default=None)
    rivals = tuple(each for each in racing if best is not None and each != best)
    gaps = all_gaps[best] if best is not None else {}
    return Standing(found, best, rivals, gaps, "" if whole else " at the clients")


def _ends(group: Condition, whole: bool) -> Ends:
    return {
        (run.config.seed, run.config.data.seed): reached
        for run in group.finished
        if (reached := run.summary.accuracy if whole else run.summary.personalized) is not None
    }


def _gaps(ends: Mapping[str, Ends], one: str) -> dict[str, Gap]:
    found = {}
    for other, theirs in ends.items():
        points = paired(ends[one], theirs)
        if other != one and points is not None:
            common = [value for key, value in theirs.items() if key in ends[one]]
            part = points.count < max(len(theirs), len(ends[one]))
            found[other] = Gap(points, mean_interval(common).mean, part)
    return found


def headline(stands: Standing, count: int) -> Markup:
    """Return what ``count`` configurations on the same data show, in one line."""
    if not stands.ends:
        return Markup("{} configurations, none has finished").format(count)
    if stands.best is None:
        return Markup("{} configurations of unlike seeds or splits").format(count)
    reached = percent(stands.mean(stands.best))
    ends = Markup("{} ends at <em>{}</em>{}").format(stands.best, reached, stands.where)
    if len(stands.ends) == 1 < count:
        return ends + ", no other has a result to compare"
    if not stands.rivals:
        return ends
    if stands.leads:
        return Markup("{} leads with <em>{}</em>{}").format(stands.best, reached, stands.where)
    open_ = {each: stands.gaps[each] for each in stands.rivals if not stands.gaps[each].sure}
    nearest = sorted(open_, key=lambda each: open_[each].points.mean)
    level = [each for each in nearest if open_[each].level]
    chance = [each for each in nearest if open_[each].points.half is not None]
    gap = open_[nearest[0]]
    if level:
        return ends + Markup(", level with {}").format(_listed(level))
    if not chance:
        # Means of other seeds stand beside a difference of these alone no better than at random.
        if gap.part:
            ends = Markup("{} ends").format(stands.best)
            words = Markup(" <em>{:.1f} points</em>{} above {} in one run of each")
            return ends + words.format(100 * gap.points.mean, stands.where, nearest[0])
        words = Markup(", {:.1f} points above {} in one run of each")
        return ends + words.format(100 * gap.points.mean, nearest[0])
    return ends + Markup(", within chance of {}").format(_listed(chance))


def _listed(labels: Sequence[str]) -> str:
    if len(labels) > _NAMED:
        return f"{', '.join(labels[: _NAMED - 1])} and {len(labels) - _NAMED + 1} others"
    return " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))


def gap_words(gap: Gap, what: str) -> Markup:
    """Return by how much the best ends above ``what``, in words that follow 'ends'."""
    if gap.level:
        text = Markup("<b>level</b> with {} ({})").format(what, percent(gap.base))
    else:
        above = gap.points.mean >= 0
        size = Interval(abs(gap.points.mean), gap.points.half, gap.points.count).text(100)
        text = Markup("<b>{} points</b> {} {} ({})").format(
            size, "above" if above else "below", what, percent(gap.base)
        )
    count = gap.points.count
    return text + f", over {count} seed{'s' * (count > 1)} in common" * gap.part


def unlike_words(stands: Standing) -> Markup:
    """Return which seeds and splits a configuration lacks that another has; '' if none."""
    every = sorted({key for ends in stands.ends.values() for key in ends})
    splits = len({split for _, split in every}) > 1
    lacking = [
        f"{label} lacks {_some([f'seed {s}' + f' of split {d}' * splits for s, d in gone])}"
        for label, ends in stands.ends.items()
        if (gone := [key for key in every if key not in ends])
    ]
    if not lacking:
        return Markup()
    text = Markup("<b>Not all have the same seeds or splits</b>: {}.")
    return text.format(", ".join(lacking))


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + f" and {more} more" * (more > 0)
