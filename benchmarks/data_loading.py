"""What loading a data set costs a simulation: `python benchmarks/data_loading.py`.

Makes JPEGs in class folders and runs FedAvg on them by Flower's simulation, each client in a Ray
worker of its own, all at once: seconds from the command to the end of round 1, and memory of each
worker, twice a second from /proc/PID/smaps_rollup. ``USS`` is what is the worker's alone, ``PSS``
that and its share of what several map, ``anonymous`` what no file is behind. ``CPU`` is what all
processes of the run used till its end, whatever else the machine did. The run is done twice on one
cache folder: what the first leaves there, the second finds. ``--checkout`` measures another
checkout's code, ``--before FILE`` puts its figures (the .json) into the table as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from table import machine_facts, machine_line

from regl_app.core.files import write_json, write_text
from regl_app.runs.comparison.tables import markdown_table

RESULTS = Path(__file__).resolve().parent / "results"
CLASSES, WIDTH, HEIGHT, SMALL = 4, 500, 375, (64, 48)
MEMORY = ("uss", "pss", "anonymous")
SETTINGS = {
    "method": "fedavg",
    "data.source": "folder",
    "partition.scheme": "iid",
    "train.steps": 2,
    "train.batch-size": 16,
    "rounds": 2,
    "report": False,
    "tensorboard": False,
    "device": "cpu",
}
# Flower starts as many workers as there are processors: here, one for each client.
CHILD = """
import json, os, sys
import regl_app
from regl_app.flower.engines import flower_run
assert regl_app.__file__.startswith(os.environ["PYTHONPATH"] + "/"), regl_app.__file__
clients, keys = json.load(sys.stdin)
plain = flower_run.simulation_options
flower_run.simulation_options = lambda values: plain([*values, ("init-args-num-cpus", clients)])
flower_run.run_flower(regl_app.RunConfig.from_flat(keys), clients=clients)
"""
Figures = dict[str, float]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--size", type=int, default=128, help="data.image-size")
    parser.add_argument("--links", action="store_true", help="one picture under all names")
    parser.add_argument("--runs", type=int, choices=(1, 2), help="usually 2, with --links 1")
    parser.add_argument("--model-width", type=int, default=4)
    parser.add_argument("--checkout", type=Path, default=RESULTS.parents[1])
    parser.add_argument("--before", type=Path, help="what was measured of another checkout")
    parser.add_argument("--out", type=Path, default=RESULTS / "data_loading.md")
    parser.add_argument("--folder", type=Path, help="scratch for pictures, run and cache")
    options = parser.parse_args()
    facts = machine_facts()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        pictures = Path(scratch) / "pictures"
        write_pictures(pictures, options.images, links=options.links)
        settings = SETTINGS | {
            "data.path": str(pictures),
            "data.image-size": options.size,
            "model.width": options.model_width,
            # Whoever asks how much memory a large set takes need not wait for its evaluation.
            **({"data.max-test": 500, "partition.test-fraction": 0.02} if options.links else {}),
            "cache-dir": str(Path(scratch) / "cache"),
            "out-dir": str(Path(scratch) / "runs"),
        }
        checkout = options.checkout.resolve()
        rows = {
            name: measure(checkout, options.clients, settings | {"name": name})
            for name in ("first", "second")[: options.runs or (1 if options.links else 2)]
        }
    known = {} if options.before is None else json.loads(options.before.read_text())["rows"]
    every = {f"before, {name} run": row for name, row in known.items()}
    every |= {f"{'now, ' * bool(known)}{name} run": row for name, row in rows.items()}
    memory = [f"{name.replace('uss', 'USS').replace('pss', 'PSS')}, MB a worker" for name in MEMORY]
    head = ["", "s to round 1", "CPU s", *memory, "PSS of all, MB"]
    table = markdown_table(head, [[name, *_cells(row)] for name, row in every.items()])
    kind = (
        f"links to one JPEG of {SMALL[0]} x {SMALL[1]}" if options.links else "JPEGs of 500 x 375"
    )
    command = " ".join(["python benchmarks/data_loading.py", *_varied(parser, options)])
    where = f"{options.clients} clients in {options.clients} Ray workers"
    text = f"""{options.images:,} {kind} pixels, read at {options.size}, {where}; `{command}`

{table}

CPU: of all processes of the run, two rounds. Memory: the largest that any worker had at any time.

{machine_line(facts)}
"""
    write_text(options.out, text)
    write_json(options.out.with_suffix(".json"), {"rows": rows, "before": known, "machine": facts})
    print(text)


def _varied(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """Return the options that say what was measured, where they are not the usual ones."""
    shown = {name: getattr(options, name) for name in ("images", "clients", "size", "model_width")}
    told = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in shown.items()
        if value != parser.get_default(name)
    ]
    return [*told, *["--links"] * options.links]


def write_pictures(folder: Path, images: int, *, links: bool) -> None:
    """Write ``images`` JPEGs of noise on soft shapes, about as large as photographs are.

    ``links``: one small JPEG under that many names, which takes no time to decode.
    """
    random = np.random.default_rng(0)
    soft = [
        np.asarray(
            Image.fromarray(random.integers(0, 200, (6, 8, 3), dtype=np.uint8)).resize(
                (WIDTH, HEIGHT), Image.Resampling.BICUBIC
            )
        )
        for _ in range(20)
    ]
    noise = random.integers(0, 40, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for number in range(images):
        path = folder / f"class{number % CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if links and number:
            path.hardlink_to(folder / "class0" / "000000.jpg")
            continue
        picture = Image.fromarray(np.roll(soft[number % len(soft)], number, axis=1) + noise)
        (picture.resize(SMALL) if links else picture).save(path, quality=85)


def measure(checkout: Path, clients: int, settings: Mapping[str, object]) -> Figures:
    """Run ``settings`` with the code of ``checkout``; return seconds and bytes."""
    history = Path(str(settings["out-dir"])) / str(settings["name"]) / "history.jsonl"
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        text=True,
        cwd=history.parents[2],
        env=os.environ | {"PYTHONPATH": str(checkout)},
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps([clients, settings]))
    child.stdin.close()
    peaks: dict[str, dict[int, int]] = {name: defaultdict(int) for name in MEMORY}
    together, seconds, used = 0, 0.0, dict[int, float]()
    while child.poll() is None:
        if not seconds and _rounds(history) > 1:  # round 0 only measures the untrained model
            seconds = time.monotonic() - began
        total = 0
        workers, cpu = _processes(child.pid)
        used |= cpu
        for worker in workers:
            memory = memory_of(worker)
            total += memory.get("pss", 0)
            for name, value in memory.items():
                peaks[name][worker] = max(peaks[name][worker], value)
        together = max(together, total)
        time.sleep(0.5)
    if child.returncode or not seconds:
        raise SystemExit(f"the run failed ({child.returncode})")
    largest = {name: float(max(found.values())) for name, found in peaks.items()}
    cpu_seconds = sum(used.values())
    return {"seconds": seconds, "cpu": cpu_seconds, **largest, "together": float(together)}


def memory_of(pid: int) -> dict[str, int]:
    """Return a process's bytes by ``MEMORY``; nothing if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {}
    held = {key: int(rest.split()[0]) * 1024 for key, rest in (li.split(":") for li in lines)}
    uss = held["Private_Clean"] + held["Private_Dirty"]
    return {"uss": uss, "pss": held["Pss"], "anonymous": held["Anonymous"]}


def _processes(pid: int) -> tuple[list[int], dict[int, float]]:
    """Return Ray's workers among the processes below ``pid``, and the CPU seconds of them all."""
    children: dict[int, list[int]] = defaultdict(list)
    names: dict[int, bytes] = {}
    ticks: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        children[int(fields[1])].append(int(folder.name))
        ticks[int(folder.name)] = float(fields[11]) + float(fields[12])
    below, found, used = [pid], [], {}
    while below:
        process = below.pop()
        below += children[process]
        used[process] = ticks.get(process, 0.0) / os.sysconf("SC_CLK_TCK")
        if b"ClientAppActor" in names.get(process, b""):
            found.append(process)
    return found, used


def _rounds(history: Path) -> int:
    return len(history.read_text(encoding="utf-8").splitlines()) if history.is_file() else 0


def _cells(row: Figures) -> list[str]:
    memory = [f"{row[name] / 1e6:,.0f}" for name in (*MEMORY, "together")]
    return [f"{row['seconds']:.0f}", f"{row['cpu']:.0f}", *memory]


if __name__ == "__main__":
    main()
