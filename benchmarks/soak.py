"""Does a long run stay as it is? `python benchmarks/soak.py`: memory and disk over 50 rounds.

The real `flwr run` with the default method, adapters included, on tiny settings: 100 clients on as
many worker processes as there are processors. Every few seconds the memory of all processes of the
run and the size of all they write is noted. Flat is, after the first fifth of the rounds, what a
straight line through the rest rises by less than 5 % of its mean, or less than a stated few MB.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import STYLE
from table import machine_facts, machine_line

from regl_app.config import RunConfig
from regl_app.core.files import write_json, write_text
from regl_app.core.processes import descendants
from regl_app.core.types import Scalar
from regl_app.flower.engines.flower_run import run_flower
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.report.svg import Svg, ticks

RESULTS = Path(__file__).resolve().parent / "results"
SETTINGS: dict[str, Scalar] = {
    "train.steps": 1,
    "train.batch-size": 8,
    "model.width": 4,
    "data.image-size": 16,
    "data.max-test": 60,
    "partition.scheme": "iid",
    "generator.steps": 1,
    "generator.guidance": 1.0,
    "generator.image-conditioning": False,
    "lora.steps": 1,
    "lora.batch-size": 2,
    "lora.rank": 1,
    "lora.min-images": 2,
    "supplement.cap": 2,
    "supplement.ratio": 0.5,
    "supplement.schedule": "constant",
    "probe.per-class": 1,
    "tensorboard": False,
}
KINDS = {
    "workers": re.compile(r"ray::|default_worker\.py"),
    "server": re.compile(r"flwr-simulation"),
    "Flower": re.compile(r"flower-|/flwr |bin/flwr"),
    "Ray": re.compile(r"raylet|gcs_server|/ray/"),
}
PLACES = ("cache", "run folder", "Flower", "Ray")
WARM_UP = 0.2
TOLERANCE, TOLERANCE_MB = 0.05, 20.0


@dataclass(frozen=True)
class Sample:
    """Seconds since the start, rounds done, MB of memory by kind of process and of disk by place.

    ``memory`` is what processes allocated (anonymous and shared memory, the latter counted once):
    the pages of program files come and go with what else runs on the machine. ``resident`` is the
    sum of all resident sizes, those pages included.
    """

    seconds: float
    rounds: int
    memory: Mapping[str, float]
    disk: Mapping[str, float]
    resident: Mapping[str, float]
    workers: int


@dataclass(frozen=True)
class Trend:
    """A straight line through what was measured in the rounds after the warm-up, in MB."""

    mean: float
    per_round: float
    change: float

    @property
    def flat(self) -> bool:
        """Return whether it grew by less than the tolerance."""
        return self.change <= max(TOLERANCE * self.mean, TOLERANCE_MB)


def main() -> int:
    """Run, measure, print and write; return 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between samples")
    parser.add_argument("--name", default="soak", help="of the results' files")
    parser.add_argument("settings", nargs="*", help="further keys, KEY=VALUE")
    options = parser.parse_args()
    facts = machine_facts() | {"load before": f"{os.getloadavg()[0]:.1f}"}
    changes = dict(each.split("=", 1) for each in options.settings)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        samples, loads = soak(Path(folder), options.clients, options.rounds, options.every, changes)
    facts["load after"] = f"{os.getloadavg()[0]:.1f}"
    return report(samples, loads, facts, options.clients, options.name)


def soak(
    folder: Path, clients: int, rounds: int, every: float, changes: Mapping[str, str]
) -> tuple[list[Sample], int]:
    """Return the samples of one run and how often a generator was loaded in it."""
    # Flower's and Ray's own files are measured too: they go where tempfile says.
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    base = RunConfig.from_flat(
        SETTINGS | {"rounds": rounds, "out-dir": f"{folder}/runs", "cache-dir": f"{folder}/cache"}
    )
    known = base.to_flat()
    config = base.updated({key: type(known[key])(value) for key, value in changes.items()})
    samples: list[Sample] = []
    loads: list[str] = []
    done = threading.Event()

    def line(text: str) -> None:
        print(text, flush=True)
        if "generator loaded" in text:
            loads.append(text)

    def watch() -> None:
        started = time.monotonic()
        while not done.wait(every):
            samples.append(_sample(folder, time.monotonic() - started))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run_flower(config, clients=clients, on_line=line)
    finally:
        done.set()
        watcher.join()
        tempfile.tempdir = None
    return samples, len(loads)


def _sample(folder: Path, seconds: float) -> Sample:
    memory = dict.fromkeys((*KINDS, "other"), 0.0)
    workers, resident = 0, 0.0
    for pid in descendants(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            usage = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            continue  # it has ended
        kind = next((name for name, form in KINDS.items() if form.search(command)), "other")
        sizes = {name: int(value) / 1000 for name, value in re.findall(r"(\w+):\s+(\d+) kB", usage)}
        memory[kind] += sizes["Pss_Anon"] + sizes["Pss_Shmem"]
        resident += sizes["Rss"]
        workers += "ClientAppActor" in command
    histories = list(folder.glob("runs/*/history.jsonl"))
    rounds = sum(path.read_bytes().count(b"\n") for path in histories)
    places = (
        _megabytes([folder / "cache"]),
        _megabytes([folder / "runs"]),
        _megabytes(folder.glob("regl-flwr-*")),
        _megabytes(folder.glob("ray*")),
    )
    disk = dict(zip(PLACES, places, strict=True))
    return Sample(seconds, max(0, rounds - 1), memory, disk, {"all": resident}, workers)


def _megabytes(folders: Iterable[Path]) -> float:
    total = 0
    for folder in folders:
        for parent, _, files in os.walk(folder):
            for name in files:
                try:
                    # Blocks, not length: a shared-memory file may be sparse.
                    total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118
                except OSError:
                    continue
    return total / 1e6


def trend(values: Mapping[int, float]) -> Trend:
    """Return the line through ``values`` by round, the warm-up left out.

    Raises:
        ValueError: fewer than three rounds are left.
    """
    first = WARM_UP * max(values)
    rounds = sorted(number for number in values if number > first)
    if len(rounds) < 3:
        raise ValueError(f"a trend needs 3 rounds after the warm-up, got {len(rounds)}")
    kept = [values[number] for number in rounds]
    slope = statistics.linear_regression(rounds, kept).slope
    return Trend(statistics.mean(kept), slope, slope * (rounds[-1] - rounds[0]))


def by_round(samples: Sequence[Sample], value: str, kind: str | None = None) -> dict[int, float]:
    """Return the median over each round's samples of a total (memory, disk) or one ``kind``."""
    found: dict[int, list[float]] = {}
    for each in samples:
        parts: Mapping[str, float] = getattr(each, value)
        found.setdefault(each.rounds, []).append(
            sum(parts.values()) if kind is None else parts[kind]
        )
    last = max(found)
    # Round 0 is the start, and after the last round processes end.
    return {key: statistics.median(each) for key, each in found.items() if 0 < key < last}


def report(
    samples: Sequence[Sample], loads: int, facts: dict[str, str], clients: int, name: str
) -> int:
    """Write csv, picture, text and JSON; return 1 if something grew."""
    rows, trends = [], {}
    for value, kinds in (
        ("memory", [None, *KINDS]),
        ("resident", [None]),
        ("disk", [None, *PLACES]),
    ):
        for kind in kinds:
            found = trend(by_round(samples, value, kind))
            trends[f"{value}, {kind or 'all'}"] = found
    for what, found in trends.items():
        rows.append(
            [
                what,
                f"{found.mean:.1f}",
                f"{found.per_round:+.3f}",
                f"{found.change:+.1f}",
                "yes" if found.flat else "**no**",
            ]
        )
    rounds = max(each.rounds for each in samples)
    workers = max(each.workers for each in samples)
    flat = all(each.flat for each in trends.values())
    warm = round(WARM_UP * rounds)
    header = ["what", "mean MB", "MB per round", f"change, rounds {warm + 1}-{rounds}", "flat"]
    text = f"""{clients} clients, {rounds} rounds, {workers} worker processes, {loads} generators \
loaded; `python benchmarks/soak.py --clients {clients} --rounds {rounds}`

{markdown_table(header, rows)}

Flat is what rises by at most {100 * TOLERANCE:g} % of its mean or {TOLERANCE_MB:g} MB along a \
line through rounds {warm + 1} to {rounds}. Memory is what processes allocated; \
resident adds the program files they have mapped, shared ones once for each. \
{samples[-1].seconds / 60:.0f} minutes, load average \
{facts["load before"]} before and {facts["load after"]} after.

{machine_line(facts)}
"""
    write_text(RESULTS / f"{name}.md", text)
    write_text(RESULTS / f"{name}.csv", _table(samples))
    write_text(RESULTS / f"{name}.svg", _picture(samples, f"{name}: memory and disk"))
    content = {"machine": facts, "clients": clients, "rounds": rounds, "workers": workers}
    content |= {"generators": loads, "flat": flat}
    content |= {"trends": {key: vars(each) for key, each in trends.items()}}
    write_json(RESULTS / f"{name}.json", content)
    print(text)
    return int(not flat)


def _table(samples: Sequence[Sample]) -> str:
    first = samples[0]
    names = [f"memory {kind}" for kind in first.memory] + ["resident all"]
    names += [f"disk {place}" for place in first.disk]
    lines = [",".join(["seconds", "rounds", "workers", *(f"{each} MB" for each in names)])]
    for each in samples:
        values = [*each.memory.values(), *each.resident.values(), *each.disk.values()]
        numbers = ",".join(f"{value:.1f}" for value in values)
        lines.append(f"{each.seconds:.0f},{each.rounds},{each.workers},{numbers}")
    return "\n".join(lines) + "\n"


_SHADES = ("#2c63c4", "#e08a1e", "#3a9a5b", "#b0486a", "#777777")


def _picture(samples: Sequence[Sample], title: str) -> str:
    svg = Svg(720.0, 430.0)
    for top, value, kinds in ((24.0, "memory", tuple(KINDS)), (234.0, "disk", PLACES)):
        _panel(svg, samples, top, value, kinds)
    svg.text(330.0, 424.0, "rounds", "mid")
    text = str(svg.render(title)).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return text.replace(">", f">{STYLE}", 1) + "\n"


def _panel(
    svg: Svg, samples: Sequence[Sample], top: float, value: str, kinds: Sequence[str]
) -> None:
    left, right, height = 66.0, 600.0, 150.0
    highest = max(sum(getattr(each, value).values()) for each in samples)
    marks, last = ticks(0.0, highest, 5), max(each.rounds for each in samples)

    def place(rounds: float, amount: float) -> tuple[float, float]:
        x = left + (right - left) * rounds / max(last, 1)
        return x, top + height * (1 - amount / marks[-1])

    for mark in marks:
        (_, y) = place(0, mark)
        svg.add("line", x1=left, x2=right, y1=y, y2=y, class_="grid")
        svg.text(left - 8, y + 4, f"{mark:,.0f}", "end")
    svg.text(left, top - 8, f"{value}, MB", "")
    for number in range(0, last + 1, max(1, last // 5)):
        svg.text(place(number, 0)[0], top + height + 16, str(number), "mid")
    lines = {"all": by_round(samples, value)}
    lines |= {kind: by_round(samples, value, kind) for kind in kinds}
    for index, (kind, values) in enumerate(lines.items()):
        shade = _SHADES[index % len(_SHADES)]
        points = [place(number, values[number]) for number in sorted(values)]
        svg.polyline(points, fill="none", stroke=shade, stroke_width=2.0)
        svg.text(right + 12, top + 14 + 20 * index, kind, "", style=f"fill:{shade}")


if __name__ == "__main__":
    raise SystemExit(main())
