"""Proof of value: identical where nothing should change. `python benchmarks/identical.py A B`.

Runs a table of small configurations in two checkouts and compares, to the bit, all that a run
leaves behind but seconds, paths and dates. Either may be a file: ``record CHECKOUT FILE``, then
``compare FILE CHECKOUT``, on the same machine. Some runs are cut back by a round and resumed.
Within a checkout, a resumed run has to equal the whole one, and ``flwr run`` the in-process engine.
Exits 1 where anything differs. Comes in by doors that stay and reads the run folders' files itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Fields = dict[str, Any]
Pair = tuple[str, Fields, Fields, set[str]]

PROCESSES, CLIENTS, PATH_LENGTH = 2, 3, 120
ENGINES = ("in-process", "flwr")
BASE = """name=run out-dir=runs cache-dir=cache device=cpu tensorboard=false report=false rounds=2
data.max-train=240 data.max-test=60 data.image-size=16 partition.beta=0.5 model.width=4
train.steps=4 train.batch-size=8 generator.steps=2 lora.steps=2 lora.batch-size=4 lora.rank=2
lora.min-images=2 supplement.cap=4 supplement.ratio=0.4 probe.per-class=2 pool.per-class=4
dpo.steps=2 dpo.batch-size=2 server.tune-steps=2"""
RUNS = {
    "fedavg": "method=fedavg",
    "fedprox": "method=fedprox train.augment=true train.optimizer=adam train.lr=0.005",
    "central": "method=central model.name=resnet18",
    "regl-free": "method=regl-free",
    "regl": "method=regl lora.prior-weight=0.5 lora.layers=all",
    "regl-dpd": "method=regl-dpd",
    "feddpd-client": "method=feddpd supplement.site=client rounds=3",
    "feddpd-download": "method=feddpd supplement.site=download rounds=3",
    "feddpd-server": "method=feddpd rounds=3",
    "images": "method=feddpd supplement.adapter=frozen supplement.site=download "
    "supplement.transport=images",
    "dpo": "method=regl-dpd supplement.adapter=dpo dpo.start=lora rounds=3",
    "guidance": "method=regl-dpd supplement.adapter=guidance rounds=3",
    "noise": "method=regl-dpd privacy.noise=0.5 privacy.reproducible=true share-diagnostics=false",
    "private": "method=regl-dpd privacy.vector=client share-diagnostics=false",
    "long-tail": "method=regl-dpd long-tail.factor=10.0 rounds=3",
    "fedadam": "method=fedavg server.strategy=fedadam partition.scheme=pathological rounds=3",
    "folder": "method=fedavg data.source=folder data.path=images",
}
RESUMED = {"regl-dpd", "private", "feddpd-server", "feddpd-download", "dpo", "fedadam"}
LEFT_OUT = {"seconds", "out-dir", "texts", "sha256"}  # times, paths, names of run and code
WORK = {"adapter_steps", "adapter_cached", "generated", "reused"}  # a resumed run finds it done

CHECK = """
import json, os, sys
import client_app.main, regl_app, server_app.main
for module in (client_app, regl_app, server_app):
    assert module.__file__.startswith(os.environ["PYTHONPATH"] + "/"), module.__file__
"""
FLWR = f"{CHECK}\nfrom regl_app.cli import app\napp()"
# Each run in a process of its own, so that none finds what another has kept in memory.
IN_PROCESS = f"""{CHECK}
import flwr_datasets.partitioner, peft, sklearn.datasets, sklearn.decomposition, torchmetrics
from diffusers import StableDiffusionPipeline
from regl_app import RunConfig, run_in_process
for folder, keys in json.load(sys.stdin).items():
    if os.fork() == 0:
        os.chdir(folder)
        sys.stdout = sys.stderr = open("log.txt", "a")
        run_in_process(RunConfig.from_flat(keys), clients={CLIENTS}, workers=1)
        break
    os.wait()
"""


def main(argv: Sequence[str]) -> int:
    """Record a checkout, or compare two, and print a table; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["record", "compare"], help="compare may be left out")
    parser.add_argument("one", type=Path, help="a checkout, or what was recorded of one")
    parser.add_argument("two", type=Path, help="another; of record: the file to write")
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="in-process")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--only", default=",".join(RUNS), help="comma-separated names of runs")
    parser.add_argument("--keep", type=Path, help="new folder that keeps the run folders")
    parser.add_argument("--ignore-bytes", action="store_true", help="messages may change in size")
    named = argv and argv[0] in ("record", "compare")
    options = parser.parse_args(argv if named else ["compare", *argv])
    names, seeds = options.only.split(","), options.seeds.split(",")
    engines = ENGINES if options.engine == "both" else (options.engine,)
    paths = [options.one] if options.command == "record" else [options.one, options.two]
    found: list[Fields] = [_read(path) if path.is_file() else {} for path in paths]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(PROCESSES) as pool:
        root = (options.keep or Path(scratch)).resolve()
        jobs = [
            (number, pool.submit(run, path.resolve(), root / str(number), batch, engine, seed))
            for engine, seed, (number, path) in product(engines, seeds, enumerate(paths))
            for batch in ([names] if engine == "in-process" else [[name] for name in names])
            if path.is_dir()
        ]
        for number, job in jobs:
            found[number] |= job.result()
    if len(paths) == 1:
        options.two.write_text(json.dumps(found[0], indent=1) + "\n", encoding="utf-8")
    names += [f"{name}+resumed" for name in names if name in RESUMED]
    different = 0
    for what, one, two, more in _pairs(found, map(" ".join, product(names, engines, seeds))):
        lines = _differences(one, two, more | ({"bytes"} if options.ignore_bytes else set()))
        different += bool(lines)
        print(f"{what:44} {'DIFFERENT' if lines else 'equal'}", *lines[:3], sep="\n    ")
    print(f"{different} different")
    return int(different > 0)


def run(checkout: Path, root: Path, names: Sequence[str], engine: str, seed: str) -> Fields:
    """Return what the runs leave below ``root``, by name; of those that are resumed, twice."""
    # Messages carry the run's folder: all are of one length, so that bytes can be equal.
    length = PATH_LENGTH - len(str(root))
    folders = {n: root / f"{n}.{engine}.{seed}".ljust(length, "_") for n in names}
    for folder in folders.values():
        _write_images(folder / "images")
    settings = {n: _settings(f"{BASE} {RUNS[n]} seed={seed}") for n in names}
    _execute(checkout, engine, {folders[n]: settings[n] for n in names})
    found = {f"{n} {engine} {seed}": reduce(folders[n] / "runs/run") for n in names}
    again = [n for n in names if n in RESUMED and cut(folders[n] / "runs/run")]
    _execute(checkout, engine, {folders[n]: settings[n] | {"resume": "runs/run"} for n in again})
    return found | {f"{n}+resumed {engine} {seed}": reduce(folders[n] / "runs/run") for n in again}


def _execute(checkout: Path, engine: str, runs: Mapping[Path, Fields]) -> None:
    commands = []
    if engine == "flwr":
        for folder, keys in runs.items():
            how = [f"{key}={json.dumps(value)}" for key, value in keys.items()]
            how = ["--resume", keys["resume"]] if "resume" in keys else how
            commands.append((folder, [FLWR, "run", *how, "--clients", str(CLIENTS)], ""))
    elif runs:
        work = json.dumps({str(folder): keys for folder, keys in runs.items()})
        commands.append((next(iter(runs)), [IN_PROCESS], work))
    for folder, command, stdin in commands:
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            subprocess.run(
                [sys.executable, "-c", *command], input=stdin, text=True, check=False, cwd=folder,
                env=os.environ | {"PYTHONPATH": str(checkout)}, stdout=log, stderr=log,
            )  # fmt: skip


def cut(run: Path) -> bool:
    """Make a finished run one that was interrupted in its last round; return whether it is."""
    if not (run / "result.json").is_file():
        return False
    (run / "result.json").unlink()
    max((run / "checkpoints").iterdir()).unlink()
    lines = (run / "history.jsonl").read_bytes().splitlines(keepends=True)
    (run / "history.jsonl").write_bytes(b"".join(lines[:-1]))
    return True


def reduce(run: Path) -> Fields:
    """Return what has to be equal of the run in the folder ``run``, by dotted name."""
    try:
        lines = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
        files = [file for file in run.rglob("*") if file.suffix in (".safetensors", ".npz")]
        content = {
            "status": _read(run / "result.json")["status"],
            # Later versions write absolute paths.
            "config": {
                key: os.path.relpath(value, run.parents[1])
                if isinstance(value, str) and Path(value).is_absolute()
                else value
                for key, value in _read(run / "config.json")["config"].items()
            },
            "federation": _read(run / "federation.json"),
            "rounds": {str(record["round"]): record for record in map(json.loads, lines)},
            "files": {file.relative_to(run).as_posix(): _arrays(file) for file in sorted(files)},
        }
        if content["status"] != "finished":
            raise ValueError(content["status"])
    except (OSError, KeyError, ValueError) as error:
        log = run.parents[1] / "log.txt"
        return {"error": f"{error} {log.read_text()[-1000:] if log.is_file() else ''}"}
    return {key: value for key, value in _flat(content) if LEFT_OUT.isdisjoint(key.split("."))}


def _arrays(file: Path) -> Fields:
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            raw = {n: (f"{a.dtype} {a.shape}", a.tobytes()) for n, a in arrays.items()}
    else:
        start = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        header, body = json.loads(file.read_bytes()[8:start]), file.read_bytes()[start:]
        tensors = [(n, t, slice(*t["data_offsets"])) for n, t in header.items() if "dtype" in t]
        raw = {n: (f"{t['dtype']} {t['shape']}", body[place]) for n, t, place in tensors}
    return {n: f"{kind} {sha256(content).hexdigest()}" for n, (kind, content) in raw.items()}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict | list):
        yield name, value
        return
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _flat(each, f"{name}.{key}".lstrip("."))


def _settings(text: str) -> Fields:
    keys: Fields = dict(each.split("=") for each in text.split())
    for key, value in keys.items():
        with suppress(ValueError):  # else it is a text
            keys[key] = json.loads(value)
    return keys


def _write_images(folder: Path) -> None:
    random = np.random.default_rng(0)
    for index, number in product(range(3), range(30)):
        (folder / f"class{index}").mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 128, (20, 24, 3)) + 60 * index
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class{index}/{number}.png")


def _pairs(sides: Sequence[Fields], keys: Iterable[str]) -> Iterator[Pair]:
    last = sides[-1]
    for key in keys:
        one, two = (side.get(key, {"error": "there is no such run"}) for side in (sides[0], last))
        # Flower's nodes run side by side, in any order: the first makes what they share.
        raced = WORK if " flwr " in key else set()
        if len(sides) > 1 or "error" in one:
            yield key, one, two, raced
        whole, other = key.replace("+resumed", ""), key.replace(" flwr ", " in-process ")
        if whole != key and whole in last:
            yield f"{key} = whole", last[whole], two, WORK
        if other != key and other in last:
            yield f"{key} = in-process", last[other], two, raced


def _differences(one: Fields, two: Fields, ignored: set[str]) -> list[str]:
    if error := one.get("error") or two.get("error"):
        return [f"failed: {error}"]
    keys = [key for key in one | two if ignored.isdisjoint(key.split("."))]
    pairs = [(key, one.get(key, "absent"), two.get(key, "absent")) for key in keys]
    # A key that the first checkout lacks is new: what it does to results shows in the results.
    pairs = [pair for pair in pairs if not (pair[0].startswith("config.") and pair[1] == "absent")]
    return [f"{key}: {seen} != {other}" for key, seen, other in pairs if seen != other]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
