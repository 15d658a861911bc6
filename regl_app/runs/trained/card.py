"""The page that goes with an exported model: what it takes, what it gives, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from regl_app.config.sections import FitRule
from regl_app.core.version import __version__
from regl_app.runs.depths import depth_words
from regl_app.runs.folder import RunFolder
from regl_app.runs.kept import kept_record, trained_by, up_to_kept
from regl_app.runs.records import FederationFacts, RoundRecord
from regl_app.runs.trained.deployable import INPUT, OUTPUT
from regl_app.runs.trained.model import TrainedModel

_HOW = {
    "onnx": """import json
import numpy as np, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{file}")
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes.json"])
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")
photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("{mode}")
image = {fit}
pixels = np.asarray(image, np.float32).reshape({size}, {size}, {channels}).transpose(2, 0, 1) / 255
print(classes[session.run(None, {{"images": pixels[None]}})[0][0].argmax()])""",
    "torchscript": """import json
import numpy as np, torch
from PIL import Image, ImageOps

found = {{"classes.json": ""}}
model = torch.jit.load("{file}", _extra_files=found)
classes = json.loads(found["classes.json"])
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")
photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("{mode}")
image = {fit}
pixels = np.asarray(image, np.float32).reshape({size}, {size}, {channels}).transpose(2, 0, 1) / 255
print(classes[model(torch.from_numpy(pixels)[None])[0].argmax()])""",
}
_FITS: Mapping[FitRule, str] = MappingProxyType(
    {
        "crop": "ImageOps.fit(photo, ({size}, {size}), Image.Resampling.BILINEAR)",
        "pad": "ImageOps.pad(photo, ({size}, {size}), Image.Resampling.BILINEAR)",
        "stretch": "photo.resize(({size}, {size}), Image.Resampling.BILINEAR)",
    }
)


def model_card(
    trained: TrainedModel, run: RunFolder, kind: str, file: str, client: int | None = None
) -> str:
    """Return the page of a model that was written as ``kind`` to ``file``, in Markdown.

    It is the global one, or that of ``client``, which the run has not measured on all images.
    """
    config, facts, history = trained.config, run.read_facts(), run.read_history()
    environment, result = run.read_environment(), run.read_result()
    last = kept_record(history, result)
    kept = up_to_kept(history, result)
    clients = "?"
    if facts is not None:
        total, trained_in = facts.num_clients, trained_by(config, facts.num_clients, kept)
        clients = str(total) if trained_in == total else f"{trained_in} of {total}"
    mode = "L" if trained.channels == 1 else "RGB"
    how = _HOW[kind].format(
        file=file,
        mode=mode,
        size=trained.size,
        channels=trained.channels,
        fit=_FITS[config.data.fit].format(size=trained.size),
    )
    measured = "not measured"
    whose = "global model" if client is None else f"model of client {client}"
    if client is not None:
        measured = f"not measured on all images (regl evaluate RUN --client {client})"
    elif last is not None and facts is not None:
        measured = _measured(last, facts)
    lines = [
        f"# {run.name}: {whose}",
        "",
        f"An image classifier of {len(trained.class_names)} classes, trained by federated learning "
        f"(regl-app {__version__}).",
        "",
        f"* Input `{INPUT}`: float32 `(N, {trained.channels}, {trained.size}, {trained.size})`, "
        f"{'grey values' if trained.channels == 1 else 'RGB'} from 0 (black) to 1; what is no "
        f"square was made one by `data.fit={config.data.fit}`, what is transparent is on white, "
        "deep greyscale (12 or 16 bits) is not read by the lines below"
        + (f" (in training: {deep})" if (deep := depth_words(trained.depths)) else ""),
        f"* Output `{OUTPUT}`: float32 `(N, {len(trained.class_names)})`, adding up to 1; classes "
        "in this order:",
        "",
        *(f"  {place}. {_plain(name)}" for place, name in enumerate(trained.class_names)),
        "",
        f"* Trained by `{config.method}` with {clients} clients, "
        f"{history[-1].round if history else 0} rounds, `model.name={config.model.name}`, data "
        f"`{config.data.source}`, seed {config.seed}"
        + (f"; {environment['date'][:10]}" if "date" in environment else ""),
        f"* Accuracy: {measured}",
        "* Not known here: the licence of the images it learned from, and what it does on images "
        "unlike them",
        "",
        "```python",
        how,
        "```",
        "",
    ]
    return "\n".join(lines)


def _measured(last: RoundRecord, facts: FederationFacts) -> str:
    """Return how good the global model was, and on which images: the server's or the sites'."""
    metrics = last.metrics
    macro, images = f"macro-F1 {100 * metrics.macro_f1:.1f} %", f"{facts.test_images} test images"
    if not facts.test_images:
        count = f"{sum(map(sum, metrics.confusion))} " if metrics.confusion else ""
        images = f"the {count}test images of the sites together"
        if not any(share is not None for share in metrics.per_class):
            macro += ", the mean of the sites' own"
    return f"{100 * metrics.accuracy:.1f} % ({macro}) on {images}, after round {last.round}"


def _plain(name: str) -> str:
    """Return a class's name as Markdown that shows it."""
    shown = " ".join(name.split())
    return f"`{shown}`" if "`" not in shown else shown
