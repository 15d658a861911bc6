"""What each site costs whom: `python benchmarks/cost.py [--taught]`.

Three tables, on the digits: seconds and bytes per client and round by site, clients one after the
other on one thread, caches empty at the start; the same seconds part by part; and the server's at
site 'server' against the number of clients. Images are labelled hard, or with ``--taught`` as the
methods come. Every figure is from the run folders'
histories, but one: server and clients of a simulation share a cache, so what a client on a machine
of its own makes for itself, probe set and shared pool, is measured apart.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from table import machine_facts, machine_line

from regl_app.config import RunConfig
from regl_app.config.parsing import parse_variants
from regl_app.core.files import write_json, write_text
from regl_app.core.formats import size
from regl_app.core.log import setup_logging
from regl_app.core.processors import usable_processors
from regl_app.core.types import Scalar
from regl_app.data.sources.registry import load_source
from regl_app.flower.engines.engine import EngineName, make_engine
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import RoundRecord
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.synthesizer import Synthesizer

RESULTS = Path(__file__).resolve().parent / "results"
_DOWNLOAD = "feddpd+supplement.adapter=frozen+supplement.site=download"
HARD = (
    "fedavg",
    "client, frozen:regl-dpd+supplement.adapter=frozen",
    "client, lora:regl-dpd",
    "client, dpo:regl-dpd+supplement.adapter=dpo",
    f"download by reference:{_DOWNLOAD}",
    f"download as pixels:{_DOWNLOAD}+supplement.transport=images",
    "server:feddpd+supplement.adapter=frozen",
)
TAUGHT = (
    "fedavg",
    "ccvr",
    "client, frozen:regl-dpd+supplement.adapter=frozen",
    "client, lora:regl-dpd",
    "client, lora, ccvr:regl-dpd+objective=ccvr",
    "one lora for all:regl-shared",
    f"download:{_DOWNLOAD}",
    f"download, experts' labels:{_DOWNLOAD}+labels.by=experts",
    "server:feddpd+supplement.adapter=frozen",
)
# What a client does once or while it lasts, and what it does each round.
MAKING, EACH_ROUND = ("adapt", "generate"), ("train", "probe", "measure", "evaluate")
SERVER = ("aggregate", "teach", "score", "generate", "select", "tune", "label")
COUNTED = ("score", "generate", "select", "tune", "teach")


def main() -> None:
    """Measure, print and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="at least 5")
    parser.add_argument("--clients", type=int, default=10, help="clients of the first table")
    parser.add_argument("--counts", default="5,10,20,40", help="clients of the last table")
    parser.add_argument("--taught", action="store_true", help="methods as they come")
    options = parser.parse_args()
    if options.rounds < 5:
        parser.error(f"--rounds must be at least 5, got {options.rounds}: preferences are tuned")
    facts = machine_facts()
    setup_logging()
    labels: dict[str, Scalar] = {} if options.taught else {"labels.by": "hard"}
    name, command = ("cost-taught", " --taught") if options.taught else ("cost", "")
    by_site = {
        site: run_rounds(settings | labels, options.rounds, options.clients)
        for site, settings in parse_variants(TAUGHT if options.taught else HARD).items()
    }
    # Every client has images, and what it does between does not matter here.
    many: dict[str, Scalar] = {
        "method": "feddpd",
        "supplement.adapter": "frozen",
        "partition.scheme": "iid",
        "train.steps": 1,
    }
    by_count = {
        count: run_rounds(many | labels, 3, count) for count in map(int, options.counts.split(","))
    }
    probe, pool = _own_sets()
    where = f"digits, {options.clients} clients, Dirichlet 0.01, {options.rounds} rounds, seed 0"
    text = f"""{where}; `python benchmarks/cost.py{command}`

{_site_table(by_site)}

Seconds of generating, training and measuring at a client, mean over clients, those too small to
tune an adapter included; 'later' is the median of rounds 4 to {options.rounds - 1} (the last one
ships nothing). Not in it: on a machine of its own each client at site 'client' makes the probe set,
{probe:.1f} s once per machine, and one that downloads by reference the pool, {pool:.1f} s once.
Bytes are the mean of later rounds: the model (down twice, to train and to evaluate), quotas,
images, opinions and class statistics.

{_part_table(by_site)}

The same runs part by part: a client's seconds for making images, all {options.rounds} rounds
together, and of its later rounds; then the server's of these ('-': there is no such part).

{_count_table(by_count)}

Site 'server', frozen generator, about 1,000 real images in all, spread evenly over the clients:
seconds of the last of 3 rounds.

{machine_line(facts)}
"""
    write_text(RESULTS / f"{name}.md", text)
    content = {
        "machine": facts,
        "sites": {site: [_plain(each) for each in history] for site, history in by_site.items()},
        "counts": {
            count: [_plain(each) for each in history] for count, history in by_count.items()
        },
    }
    write_json(RESULTS / f"{name}.json", content)
    print(text)


def run_rounds(settings: dict[str, Scalar], rounds: int, clients: int) -> list[RoundRecord]:
    """Return the rounds of a run that starts with empty caches."""
    with tempfile.TemporaryDirectory() as folder:
        base: dict[str, Scalar] = {
            "rounds": rounds,
            "partition.beta": 0.01,
            "report": False,
            "tensorboard": False,
            "out-dir": folder,
            "cache-dir": f"{folder}/cache",
        }
        # As many processors per client as there are: one client at a time.
        engine = make_engine(EngineName.IN_PROCESS, client_cpus=usable_processors())
        path = engine(RunConfig.from_flat(base | settings), clients)
        return RunFolder.open(path).read_history()


def _own_sets() -> tuple[float, float]:
    """Return the seconds that probe set and pool take with empty caches, generator loaded."""
    config = RunConfig.from_flat({"supplement.adapter": "frozen"})
    source = load_source(config.data)
    seconds = []
    for what in ("warm", "probe", "pool"):
        with tempfile.TemporaryDirectory() as folder:
            synthesizer = Synthesizer.of(config, source, "cpu", Path(folder))
            started = time.perf_counter()
            if what == "pool":
                synthesizer.pool(ClientGenerator.frozen("pool"))
            else:
                synthesizer.probe()
            seconds.append(time.perf_counter() - started)
    return seconds[1], seconds[2]


def client_seconds(record: RoundRecord, *parts: str) -> float:
    """Return what a client spent in this round, in these parts or all, as mean over clients."""
    phases = record.seconds.clients
    spent = [value for part in parts or phases for value in phases.get(part, ())]
    clients = max((len(phase) for phase in phases.values()), default=1)
    return sum(value or 0.0 for value in spent) / clients


def _server_seconds(record: RoundRecord) -> float:
    """Return what the server worked, waiting for clients left out."""
    parts = record.seconds.server.items()
    return sum(value for name, value in parts if not name.startswith("wait"))


def _later(history: Sequence[RoundRecord]) -> Sequence[RoundRecord]:
    return history[4:-1]


def _site_table(by_site: dict[str, list[RoundRecord]]) -> str:
    header = ["site, adapter", *(f"client s, round {number}" for number in (1, 2, 3))]
    header += ["client s, later"]
    header += ["/ fedavg", "server s, later", "bytes down", "bytes up"]
    rows = []
    plain = statistics.median(map(client_seconds, _later(by_site["fedavg"])))
    for name, history in by_site.items():
        later = _later(history)
        client = statistics.median(map(client_seconds, later))
        down = statistics.mean(statistics.mean(each.bytes.clients_down) for each in later)
        up = statistics.mean(statistics.mean(each.bytes.clients_up) for each in later)
        rows.append(
            [
                name,
                *(f"{client_seconds(each):.2f}" for each in history[1:4]),
                f"{client:.2f}",
                f"{client / plain:.2f}",
                f"{statistics.median(map(_server_seconds, later)):.2f}",
                size(round(down)),
                size(round(up)),
            ]
        )
    return markdown_table(header, rows)


def _part_table(by_site: dict[str, list[RoundRecord]]) -> str:
    rows = []
    for name, history in by_site.items():
        later = _later(history)
        rows.append(
            [
                name,
                *(_cell([sum(client_seconds(each, part) for each in history)]) for part in MAKING),
                *(_cell([client_seconds(each, part) for each in later]) for part in EACH_ROUND),
                *(_cell([each.seconds.server.get(part, 0.0) for each in later]) for part in SERVER),
            ]
        )
    header = ["site, adapter", *(f"client: {part}, in all" for part in MAKING)]
    header += [*(f"client: {part}" for part in EACH_ROUND), *(f"server: {part}" for part in SERVER)]
    return markdown_table(header, rows)


def _cell(seconds: Sequence[float]) -> str:
    value = statistics.median(seconds)
    return f"{value:.2f}" if value else "-"


def _count_table(by_count: dict[int, list[RoundRecord]]) -> str:
    rows = [
        [
            str(count),
            *(_cell([history[-1].seconds.server.get(part, 0.0)]) for part in COUNTED),
            f"{_server_seconds(history[-1]):.2f}",
        ]
        for count, history in by_count.items()
    ]
    header = ["clients", *(f"{part} s" for part in COUNTED), "server s per round"]
    return markdown_table(header, rows)


def _plain(record: RoundRecord) -> dict[str, object]:
    return {
        "round": record.round,
        "seconds": record.seconds.model_dump(),
        "bytes": record.bytes.model_dump(),
    }


if __name__ == "__main__":
    main()
