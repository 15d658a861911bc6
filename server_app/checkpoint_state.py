"""What the server remembers from round to round besides the model, as tensors for a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from regl_app.core.types import Counts, Tensors
from regl_app.supplement.payload import Payload, PoolReference
from regl_app.supplement.plan import Measured

_TEXTS, _METHOD, _SHARED, _GOING = "texts", "method.", "shared.", "going."


@dataclass(frozen=True)
class ServerMemory:
    """A run's name for its clients, its code, and what is known of each client, by partition.

    ``measured`` is what the clients' quotas follow from, ``held`` (C,) are the server supplement's
    last ones; ``payloads`` go out with the next requests, to clients of so many ``real_images``;
    ``preferred`` and ``tuned`` its preference-tuned adapters and in how many rounds each was tuned;
    ``method`` is the method's state; ``shared`` the adapter of all clients, B by name;
    ``going`` the weights that the next round goes on from, where they are not the global model's;
    ``empty`` the clients known to have no images.
    """

    run: str
    code: str = ""
    measured: Mapping[int, Measured] = field(default_factory=dict)
    held: Mapping[int, Counts] = field(default_factory=dict)
    payloads: Mapping[int, Payload] = field(default_factory=dict)
    preferred: Mapping[int, str] = field(default_factory=dict)
    tuned: Mapping[int, int] = field(default_factory=dict)
    method: Tensors = field(default_factory=dict)
    shared: Tensors = field(default_factory=dict)
    going: Tensors = field(default_factory=dict)
    empty: frozenset[int] = frozenset()
    real_images: Mapping[int, int] = field(default_factory=dict)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Return all of it by name."""
        tensors = {f"held.{key}": _tensor(value) for key, value in self.held.items()}
        for key, each in self.measured.items():
            tensors[f"measured-held.{key}"] = _tensor(each.held)
            tensors[f"discrepancy.{key}"] = torch.from_numpy(np.array(each.discrepancy, float))
        references: dict[int, Any] = {}
        for key, payload in self.payloads.items():
            tensors[f"labels.{key}"] = _tensor(payload.labels)
            tensors[f"pixels.{key}"] = _bytes(payload.pixels)
            tensors[f"file.{key}"] = _bytes(payload.adapter_file)
            if payload.opinion:
                tensors[f"opinion.{key}"] = _bytes(payload.opinion)
            references[key] = None
            if payload.reference is not None:
                references[key] = [payload.reference.pool, payload.reference.adapter]
                tensors[f"places.{key}"] = _tensor(payload.reference.indices)
                if payload.reference.sequence is not None:
                    tensors[f"sequence.{key}"] = _tensor(payload.reference.sequence)
        texts = {
            "run": self.run,
            "code": self.code,
            "measured": {key: [m.real_images, m.round] for key, m in self.measured.items()},
            "preferred": self.preferred,
            "tuned": self.tuned,
            "references": references,
            "empty": sorted(self.empty),
            "real_images": self.real_images,
        }
        for prefix, named in (
            (_METHOD, self.method),
            (_SHARED, self.shared),
            (_GOING, self.going),
        ):
            tensors |= {prefix + name: value for name, value in named.items()}
        return tensors | {_TEXTS: _bytes(json.dumps(texts).encode())}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> ServerMemory:
        """Return what :meth:`to_tensors` was called on."""
        texts = json.loads(_raw(tensors[_TEXTS]))

        def counts(name: str) -> dict[int, Counts]:
            prefix = f"{name}."
            return {
                int(key.removeprefix(prefix)): value.numpy()
                for key, value in tensors.items()
                if key.startswith(prefix)
            }

        def below(prefix: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        def by_partition(name: str) -> dict[int, Any]:
            return {int(key): value for key, value in texts[name].items()}

        places, sequences = counts("places"), counts("sequence")
        measured = {
            int(key): Measured(
                tensors[f"measured-held.{key}"].numpy(),
                tensors[f"discrepancy.{key}"].numpy(),
                *facts,
            )
            for key, facts in texts.get("measured", {}).items()  # earlier versions kept quotas
        }
        payloads = {
            key: Payload(
                tensors[f"labels.{key}"].numpy(),
                None
                if reference is None
                else PoolReference(reference[0], places[key], reference[1], sequences.get(key)),
                _raw(tensors[f"pixels.{key}"]),
                _raw(tensors[f"file.{key}"]),
                _raw(tensors[f"opinion.{key}"]) if f"opinion.{key}" in tensors else b"",
            )
            for key, reference in by_partition("references").items()
        }
        return cls(
            texts["run"],
            texts["code"],
            measured,
            counts("held"),
            payloads,
            by_partition("preferred"),
            by_partition("tuned"),
            below(_METHOD),
            below(_SHARED),
            below(_GOING),
            # earlier versions kept neither
            empty=frozenset(texts.get("empty", ())),
            real_images=by_partition("real_images") if "real_images" in texts else {},
        )


def _tensor(values: Counts) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64))


def _bytes(content: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())


def _raw(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()
