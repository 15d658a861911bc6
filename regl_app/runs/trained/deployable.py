"""A run's model for other programs: one file that takes pixels and gives probabilities."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from regl_app.core.errors import ConfigError, RunError
from regl_app.core.files import atomic_path
from regl_app.core.seeding import torch_generator
from regl_app.learning.models.classifier import Classifier
from regl_app.runs.trained.model import TrainedModel

INPUT, OUTPUT = "images", "probabilities"
_TOLERANCE = 1e-4
_CLASSES = "classes.json"
# The second differs from what the model was traced with: the number of images must stay open.
_SIZES = (2, 5)

Run = Callable[[torch.Tensor], torch.Tensor]
"""A written model, opened anew: pixels to probabilities."""


class Deployable(nn.Module):
    """Probabilities ``(N, C)`` of images ``(N, channels, H, W)`` float32 in [0, 1].

    The range in which classifiers are trained, [-1, 1], is the model's own business.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the probabilities."""
        logits: torch.Tensor = self.classifier(images * 2 - 1)
        return logits.softmax(dim=1)


@dataclass(frozen=True)
class Format:
    """A way to write a model: ``write`` makes ``file``, ``open`` runs what is there."""

    file: str
    write: Callable[[Deployable, torch.Tensor, tuple[str, ...], Path], None]
    open: Callable[[Path], Run]


@torch.no_grad()
def export_model(trained: TrainedModel, kind: str, folder: Path) -> tuple[Path, float]:
    """Write the model to ``folder`` in the format ``kind``, and return its file.

    The second value is how far the file's answers are from the run's model at most, on random
    images: it is opened anew and run.

    Raises:
        ConfigError: the format needs a package that is not installed.
        RunError: the written model does not answer as the run's does.
    """
    form = FORMATS[kind]
    model = Deployable(trained.model.cpu()).eval()
    generator = torch_generator(0, "export")
    shape = (trained.channels, trained.size, trained.size)
    images = [torch.rand(count, *shape, generator=generator) for count in _SIZES]
    path = folder / form.file
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        form.write(model, images[0], trained.class_names, temporary)
        run = form.open(temporary)
        apart = max(float((run(each) - model(each)).abs().max()) for each in images)
        if not apart <= _TOLERANCE:
            raise RunError(
                f"{path}: its probabilities differ from the run's model by up to {apart:g}, more "
                f"than {_TOLERANCE:g}: it is not kept (try another format)"
            )
    return path, apart


def _write_torchscript(
    model: Deployable, example: torch.Tensor, class_names: tuple[str, ...], path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since torch 2.9, and what C++ and phones read
        traced = torch.jit.trace(model, example)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path), _extra_files={_CLASSES: json.dumps(class_names)})


def _open_torchscript(path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: Run = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return loaded


def _write_onnx(
    model: Deployable, example: torch.Tensor, class_names: tuple[str, ...], path: Path
) -> None:
    _need("onnx", "onnxscript", "onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    program.model.metadata_props[_CLASSES] = json.dumps(class_names)
    program.save(str(path))


def _open_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return run


def _need(*packages: str) -> None:
    from importlib.util import find_spec

    if missing := [name for name in packages if find_spec(name) is None]:
        raise ConfigError(
            f"--to onnx needs {', '.join(missing)}: pip install 'regl-app[onnx]' (--to torchscript "
            "needs nothing more)"
        )


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format("model.onnx", _write_onnx, _open_onnx),
        "torchscript": Format("model.torchscript", _write_torchscript, _open_torchscript),
    }
)
"""What ``regl export --to`` writes, by name."""
