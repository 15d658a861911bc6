"""Nothing that comes from outside is ever unpickled: the sources are searched, and it is tried."""

from __future__ import annotations

import ast
import io
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from regl_app.config.sections import DataConfig
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import ReglError
from regl_app.data.sources.registry import load_source
from regl_app.flower.messages.weights import weights_from_record
from regl_app.generator.adaptation.cache import METADATA, AdapterCache
from regl_app.generator.adapters import WEIGHTS, load_adapter
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import load_pool
from regl_app.rounds.client_state import ClientState, Memory
from regl_app.runs.features import load_features
from regl_app.runs.folder import RunFolder
from regl_app.runs.samples import load_samples
from regl_app.supplement.image_store import SupplementStore

ROOT = Path(__file__).parents[1]

# Modules that unpickle, or hand objects to other processes by pickle.
MODULES = {
    "pickle", "_pickle", "cPickle", "pickletools", "marshal", "shelve", "copyreg", "dill",
    "cloudpickle", "joblib", "multiprocessing", "concurrent.futures.process", "pandas",
}  # fmt: skip
# Calls that unpickle or run what they read, whatever they are called on.
NAMES = {
    "read_pickle", "unpickle", "loadmat", "ProcessPoolExecutor", "trust_remote_code",
    "custom_pipeline",
}  # fmt: skip
# Calls that may, unless they are told not to.
TOLD = {"from_pretrained": ("use_safetensors", True), "download": ("use_safetensors", True)}
NUMPY = ("allow_pickle", False)
EXCUSED = {
    # A file that the line before has written, by TorchScript's own reader: it makes tensors and
    # plain values, no objects.
    "regl_app/runs/trained/deployable.py": ["torch.jit.load"],
    # Configurations, JSON alone, of models whose own code is refused; weights come as safetensors.
    "regl_app/generator/named_encoder.py": [
        "AutoConfig.from_pretrained without use_safetensors=True",
        "AutoImageProcessor.from_pretrained without use_safetensors=True",
        "trust_remote_code",
    ],
    # MATLAB's format, in which SVHN is published: arrays and texts, nothing of Python's.
    "regl_app/data/sources/svhn.py": ["loadmat", "loadmat"],
}


def _sources() -> list[Path]:
    folders = ("regl_app", "client_app", "server_app", "benchmarks", ".ci")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def _violations(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if _forbidden(each.name))
        elif isinstance(node, ast.ImportFrom):
            if _forbidden(node.module or ""):
                yield node.module or ""
            yield from (each.name for each in node.names if each.name in NAMES)
        elif isinstance(node, ast.Name | ast.Attribute | ast.keyword):
            name = {ast.Name: "id", ast.Attribute: "attr", ast.keyword: "arg"}[type(node)]
            if getattr(node, name) in NAMES:
                yield getattr(node, name)
            elif isinstance(node, ast.Name) and node.id in ("exec", "eval"):  # not model.eval()
                yield node.id
        elif isinstance(node, ast.Call):
            yield from _call(node)


def _forbidden(module: str) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in MODULES)


def _call(node: ast.Call) -> Iterator[str]:
    called = ast.unparse(node.func)
    told = {each.arg: ast.unparse(each.value) for each in node.keywords}
    if called.startswith("torch.") and called.rsplit(".", 1)[1] == "load":
        yield called
    elif called in ("np.load", "numpy.load", "np.save", "np.savez", "np.savez_compressed"):
        if told.get(NUMPY[0]) != str(NUMPY[1]):
            yield f"{called} without {NUMPY[0]}={NUMPY[1]}"
    elif isinstance(node.func, ast.Attribute) and node.func.attr in TOLD and node.args:
        key, value = TOLD[node.func.attr]
        if told.get(key) != str(value):
            yield f"{called} without {key}={value}"


def test_no_source_file_can_unpickle() -> None:
    files = _sources()
    assert len(files) > 150
    found = {
        str(path.relative_to(ROOT)): bad
        for path in files
        if (bad := list(_violations(path.read_text(encoding="utf-8"))))
    }
    assert found == EXCUSED


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "import multiprocessing.pool",
        "from concurrent.futures import ProcessPoolExecutor",
        "torch.load(path)",
        "torch.jit.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.savez(path, a=1)",
        "pandas.read_pickle(path)",
        "Pipeline.from_pretrained(folder)",
        "Pipeline.from_pretrained(folder, use_safetensors=False)",
        "load(folder, trust_remote_code=True)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_it_is_for(line: str) -> None:
    assert list(_violations(line))


# ---------------------------------------------------------------------------------------------
# And now it is tried: an object that leaves a trace when it is unpickled, in every file we read.


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._trace,)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "it-was-run"


def _plain(trap: _Trap) -> bytes:
    return pickle.dumps(trap)


def _torch(trap: _Trap) -> bytes:
    stream = io.BytesIO()
    torch.save({"a": trap}, stream)
    return stream.getvalue()


def _numpy(trap: _Trap) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([trap], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _archive(trap: _Trap) -> bytes:
    stream = io.BytesIO()
    names = ("labels", "class_names", "real", "real_labels", "global_features")
    np.savez(stream, **dict.fromkeys(names, np.array([trap], dtype=object)))
    return stream.getvalue()


FORMS = {"pickle": _plain, "torch": _torch, "npy": _numpy, "npz": _archive}


@pytest.mark.parametrize("form", FORMS)
def test_the_trap_works(form: str, trace: Path) -> None:
    stream = io.BytesIO(FORMS[form](_Trap(trace)))
    if form == "torch":
        torch.load(stream, weights_only=False)
    elif form == "pickle":
        pickle.load(stream)
    else:
        held = np.load(stream, allow_pickle=True)
        _ = held["labels"] if form == "npz" else held
    assert trace.exists()


Plant = Callable[[Path, bytes], Callable[[], object]]


def _run_folder(root: Path) -> RunFolder:
    (root / "config.json").write_text("{}")
    (root / "checkpoints").mkdir()
    (root / "samples").mkdir()
    return RunFolder.open(root)


def _model(root: Path, trap: bytes) -> Callable[[], object]:
    folder = _run_folder(root)
    (root / "model.safetensors").write_bytes(trap)
    return folder.load_model


def _features(root: Path, trap: bytes) -> Callable[[], object]:
    (root / "features.npz").write_bytes(trap)
    return lambda: load_features(root)


def _samples(root: Path, trap: bytes) -> Callable[[], object]:
    path = root / "client-00.npz"
    path.write_bytes(trap)
    return lambda: load_samples(path)


def _history(root: Path, trap: bytes) -> Callable[[], object]:
    folder = _run_folder(root)
    (root / "history.jsonl").write_bytes(trap + b"\n")
    return folder.read_history


def _config(root: Path, trap: bytes) -> Callable[[], object]:
    folder = _run_folder(root)
    (root / "config.json").write_bytes(trap)
    return folder.read_config


def _adapter(root: Path, trap: bytes) -> Callable[[], object]:
    (root / WEIGHTS).write_bytes(trap)
    (root / "pytorch_lora_weights.bin").write_bytes(trap)  # diffusers' own reader would take it
    return lambda: load_adapter(root)


def _adapter_cache(root: Path, trap: bytes) -> Callable[[], object]:
    cache = AdapterCache(root)
    folder = cache._path({"seed": 1})
    folder.mkdir(parents=True)
    (folder / METADATA).write_bytes(trap)
    (folder / WEIGHTS).write_bytes(trap)
    return lambda: cache.get({"seed": 1})


def _store(root: Path, trap: bytes) -> Callable[[], object]:
    store = SupplementStore(root)
    path = store._path({"label": 1})
    path.parent.mkdir(parents=True)
    path.write_bytes(trap)
    return lambda: store.get({"label": 1}, 3)


def _pool(root: Path, trap: bytes) -> Callable[[], object]:
    (root / "pool.safetensors").write_bytes(trap)
    return lambda: load_pool(root / "pool.safetensors", 2, 2)


def _state(root: Path, trap: bytes) -> Callable[[], object]:
    path = root / "client-00.safetensors"
    path.write_bytes(trap)
    return lambda: None if ClientState(path).before(2, {}) == Memory() else "something"


def _message(root: Path, trap: bytes) -> Callable[[], object]:
    record = ArrayRecord()
    record["a"] = Array("float32", (1,), "numpy.ndarray", trap)
    return lambda: weights_from_record(record, {"a": torch.zeros(1)})


def _cifar(source: str, folder: str, *names: str) -> Plant:
    def plant(root: Path, trap: bytes) -> Callable[[], object]:
        (root / folder).mkdir()
        for name in names:
            (root / folder / name).write_bytes(trap)
        config = DataConfig.model_validate({"source": source, "path": str(root)})
        return lambda: load_source(config)

    return plant


def _mnist(root: Path, trap: bytes) -> Callable[[], object]:
    for folder, names in (
        ("raw", ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz")),
        ("raw", ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")),
        ("processed", ("training.pt", "test.pt")),
    ):
        (root / "MNIST" / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / "MNIST" / folder / name).write_bytes(trap)
    return lambda: load_source(DataConfig(source="mnist", path=str(root)))


def _old_mnist(root: Path, trap: bytes) -> Callable[[], object]:
    """Plant what torchvision's MNIST loads by torch.load, where it is asked to download."""
    folder = root / "MNIST" / "processed"
    folder.mkdir(parents=True)
    (folder / "training.pt").write_bytes(trap)
    (folder / "test.pt").write_bytes(trap)
    (root / "MNIST" / "raw").write_bytes(b"")  # nothing can be fetched into it
    return lambda: load_source(DataConfig(source="mnist", path=str(root), download=True))


def _pictures(root: Path, trap: bytes) -> Callable[[], object]:
    for name in ("a", "b"):
        (root / name).mkdir()
        (root / name / "0.png").write_bytes(trap)
    return lambda: load_source(DataConfig(source="folder", path=str(root)))


def _parquet(root: Path, trap: bytes) -> Callable[[], object]:
    (root / "train-0.parquet").write_bytes(trap)
    (root / "train.pkl").write_bytes(trap)
    return lambda: load_source(DataConfig(source="hub", path=str(root)))


PLANTS: dict[str, Plant] = {
    "final model": _model,
    "features": _features,
    "samples": _samples,
    "history": _history,
    "configuration": _config,
    "adapter": _adapter,
    "message": _message,
    "CIFAR-10": _cifar(
        "cifar10", "cifar-10-batches-py", "batches.meta", "test_batch", "data_batch_1"
    ),
    "CIFAR-100": _cifar("cifar100", "cifar-100-python", "meta", "train", "test"),
    "CIFAR-10, binary": _cifar(
        "cifar10",
        "cifar-10-batches-bin",
        *("batches.meta.txt", "test_batch.bin", *(f"data_batch_{i}.bin" for i in range(1, 6))),
    ),
    "MNIST": _mnist,
    "MNIST of old": _old_mnist,
    "image folder": _pictures,
    "parquet": _parquet,
}
REBUILT: dict[str, Plant] = {
    "adapter cache": _adapter_cache,
    "image store": _store,
    "pool": _pool,
    "client state": _state,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", PLANTS)
def test_a_pickle_is_refused_and_not_run(
    what: str, form: str, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    (tmp_path / "root").mkdir()
    read = PLANTS[what](tmp_path / "root", FORMS[form](_Trap(trace)))
    with pytest.raises(ReglError):
        read()
    assert not trace.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", REBUILT)
def test_a_pickle_in_a_cache_counts_as_absent_and_is_not_run(
    what: str, form: str, trace: Path, tmp_path: Path
) -> None:
    read = REBUILT[what](tmp_path, FORMS[form](_Trap(trace)))
    assert read() is None
    assert not trace.exists()


WEIGHT_FILES = {
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "text_encoder": ("model.safetensors", "pytorch_model.bin"),
}


@pytest.mark.parametrize("form", ["pickle", "torch"])
@pytest.mark.parametrize("name", ["as it is", "pickled"])
@pytest.mark.parametrize("part", WEIGHT_FILES)
def test_a_generator_with_a_pickled_part_is_refused_and_not_run(
    part: str, name: str, form: str, trace: Path, tmp_path: Path, second_pipeline: Path
) -> None:
    folder = tmp_path / "generator"
    shutil.copytree(second_pipeline, folder)
    safe, pickled = WEIGHT_FILES[part]
    (folder / part / safe).unlink()
    (folder / part / (safe if name == "as it is" else pickled)).write_bytes(
        FORMS[form](_Trap(trace))
    )
    with pytest.raises(ReglError, match="cannot be loaded"):
        Foundation.load(GeneratorConfig(path=str(folder)), ("the digit one", "the digit two"))
    assert not trace.exists()


_WATCHED = """
import json, sys, traceback
found = []
def hook(event, arguments):
    if event == "pickle.find_class":
        found.append([str(arguments), [frame.filename for frame in traceback.extract_stack()]])
sys.addaudithook(hook)
from regl_app.config import RunConfig
from regl_app.flower.engines.in_process import run_in_process
import pickle
pickle.loads(pickle.dumps(json.JSONDecoder))  # what is looked for is seen
assert len(found) == 1, found
run_in_process(RunConfig.from_flat(json.loads(sys.argv[1])), clients=2, workers=1)
print(json.dumps(found[1:]))
"""


def test_a_whole_run_with_its_report_unpickles_nothing(
    tmp_path: Path, small_settings: dict[str, object]
) -> None:
    settings = small_settings | {"out-dir": str(tmp_path / "r"), "cache-dir": str(tmp_path / "c")}
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, json.dumps(settings)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert list((tmp_path / "r").glob("*/report.html"))
