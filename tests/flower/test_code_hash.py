"""The digest of the code changes with any of it, and not with where it lies."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from flwr.serverapp import Grid

import regl_app
from client_app.node import Node
from regl_app.config import RunConfig, external
from regl_app.config.named_code import _seen
from regl_app.core.app_code import PACKAGES, hash_code, own_code_hash
from regl_app.core.errors import ConfigError
from regl_app.flower.code_hash import refuse_uncovered, run_code_hash
from server_app.main import main


def _app(root: Path) -> Path:
    for package in PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text("x = 1\n")
    return root


def test_it_follows_names_and_content_but_not_place(tmp_path: Path) -> None:
    one = _app(tmp_path / "one")
    two = Path(shutil.copytree(one, tmp_path / "two"))
    assert hash_code(one) == hash_code(two)
    (two / "client_app" / "__init__.py").write_text("x = 2\n")
    assert hash_code(one) != hash_code(two)
    (two / "client_app" / "__init__.py").write_text("x = 1\n")
    (two / "client_app" / "more.py").write_text("")
    assert hash_code(one) != hash_code(two)


def test_other_files_do_not_count(tmp_path: Path) -> None:
    root = _app(tmp_path)
    before = hash_code(root)
    (root / "regl_app" / "weights.safetensors").write_bytes(b"1")
    (root / "README.md").write_text("hello")
    assert hash_code(root) == before


def test_our_own_is_that_of_the_code_that_runs() -> None:
    assert own_code_hash() == hash_code(Path(regl_app.__file__).resolve().parent.parent)


@pytest.fixture
def hers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have another package offer a method."""
    entry = metadata.EntryPoint("hers", "regl_app.learning.methods.moon:Moon", external.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [entry])
    external.offered.cache_clear()
    yield
    external.offered.cache_clear()


@pytest.mark.usefixtures("hers")
@pytest.mark.parametrize("program", ["flwr-serverapp", "flwr-clientapp"])
def test_a_deployment_takes_no_method_of_another_package(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = RunConfig.from_flat({"method": "fedavg"})
    other = ours.updated({"objective": "hers"})
    refuse_uncovered(other)  # on one machine it is the same for all
    monkeypatch.setattr("sys.argv", [f"/bin/{program}"])
    refuse_uncovered(ours)
    with pytest.raises(ConfigError, match=r"objective='hers' is another package's"):
        refuse_uncovered(other)
    node = {"partition-id": 0, "num-partitions": 2}
    context = Context(1, 1, node, RecordDict(), other.to_flat())
    with pytest.raises(ConfigError, match=r"another package's"):
        Node.of(context)
    with pytest.raises(ConfigError, match=r"another package's"):
        main(Grid, context)


def _naming(model: str) -> RunConfig:
    return RunConfig.from_flat({"method": "fedavg", "model.name": model})


def test_a_models_own_package_is_a_part_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "hashed_nets"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('nobody may import it for that')\n")
    (package / "nets.py").write_text("class Net: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run_code_hash(_naming("resnet18")) == own_code_hash()
    assert run_code_hash(_naming("torchvision:resnet18")) == own_code_hash()
    seen = {run_code_hash(_naming("hashed_nets.nets:Net")), own_code_hash()}
    (package / "nets.py").write_text("class Net: 'another'\n")
    _seen.clear()
    seen.add(run_code_hash(_naming("hashed_nets.nets:Net")))
    _seen.clear()
    assert len(seen) == 3
    assert run_code_hash(_naming("no_such_package:Net")) not in seen  # the build says what lacks


def test_a_reloaded_package_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook does; what is not reloaded runs as it was first seen."""
    package = tmp_path / "reloaded_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("class Net: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = _naming("reloaded_nets.nets:Net")
    before = run_code_hash(config)
    module = importlib.import_module("reloaded_nets.nets")
    assert run_code_hash(config) == before
    (package / "nets.py").write_text("class Net: 'another'\n")
    assert run_code_hash(config) == before
    importlib.reload(module)
    after = run_code_hash(config)
    assert after != before and run_code_hash(config) == after


def test_a_methods_own_package_is_a_part_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "hashed_methods.py"
    module.write_text("raise RuntimeError('nobody may import it for that')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = metadata.EntryPoint("hers", "hashed_methods:Hers", external.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [entry])
    external.offered.cache_clear()
    ours = RunConfig.from_flat({"method": "fedavg"})
    seen = {run_code_hash(ours), run_code_hash(ours.updated({"objective": "hers"}))}
    module.write_text("class Hers: ...\n")
    _seen.clear()
    seen.add(run_code_hash(ours.updated({"objective": "hers"})))
    _seen.clear()
    external.offered.cache_clear()
    assert len(seen) == 3


def test_a_node_runs_a_module_that_a_run_names_only_if_its_operator_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = _naming("her.nets:Net")

    def node(**more: str) -> Node:
        settings = {"partition-id": 0, "num-partitions": 2, **more}
        return Node.of(Context(1, 1, settings, RecordDict(), config.to_flat()))

    node()  # on one machine whoever starts the run may run anything
    monkeypatch.setattr("sys.argv", ["/bin/flwr-clientapp"])
    for allowed in ("", "her.nets:Other", "her.nets"):
        with pytest.raises(ConfigError, match=r"model\.name='her\.nets:Net'.*--node-config"):
            node(models=allowed)
    assert node(models="a:B, her.nets:Net").settings.models == ("a:B", "her.nets:Net")
    config = _naming("torchvision:resnet18")
    node()
