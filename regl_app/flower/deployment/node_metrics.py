"""Metrics of one node, for its own operator: a file in its state folder, for node_exporter.

Each message of a deployment is a process of its own, so the counters go on from what the file
already says. Nothing of it is sent anywhere.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from regl_app.core.activity import Activity
from regl_app.core.files import exclusive, folder_bytes
from regl_app.core.version import __version__
from regl_app.flower.deployment.exposition import write_metrics
from regl_app.flower.deployment.metric_families import counted, gauge, labelled

_MESSAGES, _SECONDS = "regl_node_messages", "regl_node_phase_seconds"
_LAST = ("regl_node_round", "regl_node_real_images", "regl_node_synthetic_images")
_HELP = {
    _MESSAGES: "Messages answered (outcome ok) or failed.",
    _SECONDS: "Time of the client's phases.",
    "regl_node_round": "The last round taken part in.",
    "regl_node_real_images": "Real training images.",
    "regl_node_synthetic_images": "Synthetic training images of the last round.",
}
_Samples = dict[tuple[str, ...], float]


def record_message(path: Path, state: Path, done: Activity, *, ok: bool) -> None:
    """Count a message into the file at ``path``.

    Args:
        path: the node's metrics file.
        state: the folder of its adapters and images.
        done: what was done.
        ok: whether a reply came of it.
    """
    kind = next(iter(done.seconds), done.phase)
    with exclusive(path):
        before = _read(path)
        messages = before.get(_MESSAGES, {})
        key: tuple[str, ...] = (kind, "ok" if ok else "failed")
        messages[key] = messages.get(key, 0.0) + 1
        seconds = before.get(_SECONDS, {})
        for phase, took in done.seconds.items():
            seconds[(phase,)] = seconds.get((phase,), 0.0) + took
        last = {name: before.get(name, {}).get((), 0.0) for name in _LAST}
        if done.round:
            last["regl_node_round"] = done.round
        last |= {f"regl_node_{name}": count for name, count in done.counts.items()}
        write_metrics(path, _families(done.who, messages, seconds, last, state))


def _families(
    who: str, messages: _Samples, seconds: _Samples, last: dict[str, float], state: Path
) -> Iterator[Metric]:
    yield labelled("regl_node_info", "Who this is.", ["name", "version"], {(who, __version__): 1})
    yield counted(_MESSAGES, _HELP[_MESSAGES], ["phase", "outcome"], messages)
    yield counted(_SECONDS, _HELP[_SECONDS], ["phase"], seconds)
    for name in _LAST:
        yield gauge(name, _HELP[name], last[name])
    yield gauge("regl_node_message_timestamp_seconds", "When it last answered.", time.time())
    yield from _storage(state)
    yield from _memory()


def _storage(state: Path) -> Iterator[Metric]:
    held = folder_bytes(state)
    yield gauge("regl_node_state_bytes", "Adapters, images and state of this folder.", held)
    adapters = sum(1 for path in (state / "adapters").glob("[!.]*") if path.is_dir())
    yield gauge("regl_node_adapters", "Adapters that are kept.", adapters)
    with suppress(OSError):
        free = shutil.disk_usage(state).free
        yield gauge("regl_node_disk_free_bytes", "Free on the state folder's disk.", free)


def _memory() -> Iterator[Metric]:
    with suppress(ImportError):
        import resource

        kilo = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = kilo * (1 if sys.platform == "darwin" else 1024)
        yield gauge("regl_node_memory_peak_bytes", "Of the process that worked.", peak)
    torch = sys.modules.get("torch")  # who did not need it has used no GPU
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks = {
            (str(index),): torch.cuda.max_memory_allocated(index)
            for index in range(torch.cuda.device_count())
        }
        text = "Tensors of the process that worked."
        yield labelled("regl_node_gpu_memory_peak_bytes", text, ["gpu"], peaks)


def _read(path: Path) -> dict[str, _Samples]:
    """Return the file's samples by family and label values; nothing of one that is damaged."""
    found: dict[str, _Samples] = {}
    try:
        for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
            names = {_MESSAGES: ("phase", "outcome"), _SECONDS: ("phase",)}.get(family.name, ())
            for sample in family.samples:
                if sample.name in (family.name, f"{family.name}_total"):
                    key = tuple(sample.labels.get(name, "") for name in names)
                    found.setdefault(family.name, {})[key] = sample.value
    except (OSError, ValueError, KeyError, IndexError):
        return {}
    return found
