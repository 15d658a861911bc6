"""What ships, what it says of itself, and who may import whom."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path
from types import ModuleType

import pytest
from flwr.cli.build import build_fab_from_disk
from packaging.requirements import Requirement

import regl_app
from regl_app.config import default_flat
from regl_app.flower.engines.app_bundle import build_app_folder

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flower_knows_every_key_with_its_default() -> None:
    def flat(table: dict[str, object], prefix: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in table.items():
            if isinstance(value, dict):
                found |= flat(value, f"{prefix}{key}.")
            else:
                found[prefix + key] = value
        return found

    shipped = flat(PYPROJECT["tool"]["flwr"]["app"]["config"])
    assert shipped == default_flat()
    assert [type(value) for value in shipped.values()] == [
        type(default_flat()[key]) for key in shipped
    ]


def test_no_federation_is_shipped() -> None:
    # Flower would move it to the user's own configuration and comment it out here.
    assert "federations" not in PYPROJECT["tool"]["flwr"]


def test_version_and_command_agree() -> None:
    assert PYPROJECT["project"]["version"] == regl_app.core.version.__version__
    assert f"## [{regl_app.core.version.__version__}]" in (ROOT / "CHANGELOG.md").read_text(
        encoding="utf-8"
    )
    assert PYPROJECT["project"]["scripts"]["regl"] == "regl_app.cli:app"


def test_the_library_imports_neither_app() -> None:
    for path in sorted((ROOT / "regl_app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] not in {"client_app", "server_app"}, path


def modules_of(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.splitlines()[-1].split())


def imported_by(code: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_of(code)}


@pytest.mark.parametrize(
    "code",
    ["import regl_app", "from regl_app import RunConfig", "import regl_app.cli"],
)
def test_the_doors_are_light(code: str) -> None:
    heavy = {"torch", "diffusers", "peft", "transformers", "matplotlib", "sklearn", "flwr", "ray"}
    assert imported_by(code) & heavy == set()


@pytest.mark.parametrize(
    "modules", ["client_app.main, client_app.handlers", "server_app.main"], ids=["client", "server"]
)
def test_an_app_starts_without_what_it_may_not_need(modules: str) -> None:
    # Each run and each node's worker starts with them: torchvision alone takes as long as torch.
    heavy = {"diffusers", "peft", "transformers", "matplotlib", "sklearn", "flwr_datasets"}
    assert imported_by(f"import {modules}") & (heavy | {"torchvision"}) == set()


def test_the_process_of_a_message_leaves_torch_and_the_keys_to_the_worker() -> None:
    found = modules_of("import client_app.main, client_app.worker.client")
    assert found & {"torch", "regl_app.config.run_config"} == set()


def test_every_public_name_can_be_imported() -> None:
    for name in regl_app.__all__:
        assert getattr(regl_app, name) is not None
    assert set(regl_app.__all__) <= set(dir(regl_app))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = regl_app.nothing


def test_the_configuration_reference_is_up_to_date() -> None:
    tool = load_tool("config_docs")
    assert tool.TARGET.read_text(encoding="utf-8") == tool.render(), "run: make docs"


def test_the_reference_names_every_key_once_in_its_tables() -> None:
    text = load_tool("config_docs").render().partition("## The run")[2]
    for key in default_flat():
        assert text.count(f"\n| `{key}` |") == 1, key


def constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_constraints_are_exact_pins_without_host_or_path() -> None:
    for line in constraints():
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9][0-9a-z.]*", line), line


def test_constraints_pin_every_direct_dependency() -> None:
    pinned = {line.partition("==")[0] for line in constraints()}
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["test"] + extras["docs"]
    for requirement in wanted:
        name = re.split(r"[\[<>=]", requirement)[0]
        assert name in pinned, f"{name}: make constraints"


def test_constraints_do_not_contradict_one_another() -> None:
    # E.g. a torchvision that needs a newer torch installs nowhere, or does not load.
    pins = dict(line.split("==") for line in constraints())
    for name in ("torchvision", "torchmetrics", "flwr", "diffusers", "peft", "ray"):
        for requirement in map(Requirement, requires(name) or []):
            pin = pins.get(requirement.name.lower().replace("_", "-"))
            active = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if pin is not None and active:
                assert requirement.specifier.contains(pin), f"{name} needs {requirement}"


def test_nothing_committed_names_this_machine() -> None:
    parent = str(ROOT.parent)
    done = subprocess.run(
        ["git", "grep", "-IlF", f"{parent}/"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode > 1:
        pytest.skip("no git checkout")
    assert done.stdout == ""


@pytest.mark.parametrize("of", ["checkout", "regl run"])
def test_the_app_bundle_holds_the_code_and_no_tests(of: str, tmp_path: Path) -> None:
    app = ROOT if of == "checkout" else build_app_folder(tmp_path / "app")
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(app))) as bundle:
        names = set(bundle.namelist())
    needed = {"regl_app/cli/__init__.py", "client_app/main.py", "server_app/main.py"}
    # Weights cannot travel in it: found in the installation, checked against these.
    assert needed | {"regl_app/generator/checksums.py"} <= names
    assert {name.partition("/")[0] for name in names} <= {
        *("regl_app", "client_app", "server_app", "pyproject.toml", "README.md", "LICENSE"),
        ".info",  # Flower's own list of what is in it
    }


def find_python(folder: Path, version: str, *, has_venv: bool) -> subprocess.CompletedProcess[str]:
    """Run the Makefile's search where the only Python is a fake one."""
    fake = folder / "python3"
    checks = "exit 0" if has_venv else 'case "$2" in *ensurepip*) exit 1;; esac; exit 0'
    old = 'case "$2" in *version_info*) exit 1;; esac' if version < "3.11" else ":"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo Python {version}\n{old}\n{checks}\n')
    fake.chmod(0o755)
    return subprocess.run(
        ["/bin/sh", str(ROOT / ".ci" / "find-python.sh")],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_suitable_python_is_found(tmp_path: Path) -> None:
    done = find_python(tmp_path, "3.12.1", has_venv=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "python3"))


def test_an_old_python_is_named_with_what_is_needed(tmp_path: Path) -> None:
    done = find_python(tmp_path, "3.10.2", has_venv=True)
    assert done.returncode == 1
    assert "3.11" in done.stderr
    assert "python3 (Python 3.10.2)" in done.stderr


def test_a_python_without_venv_is_told_how_to_get_it(tmp_path: Path) -> None:
    done = find_python(tmp_path, "3.11.2", has_venv=False)
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr


@pytest.mark.parametrize(("temporary", "free"), [("/", 10), ("/other", 7)])
def test_a_disk_that_cannot_hold_the_installation_is_named(
    temporary: str, free: int, tmp_path: Path
) -> None:
    def check(gib: int) -> subprocess.CompletedProcess[str]:
        fake = tmp_path / "df"
        line = f"printf 'head\\nx 0 0 {gib * 1048576} 0%% %s\\n'"
        fake.write_text(f"#!/bin/sh\ncase $2 in /o*) at=/other;; *) at=/;; esac\n{line} $at\n")
        fake.chmod(0o755)
        return subprocess.run(
            [str(ROOT / ".ci" / "check-space.sh"), "/home"],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": temporary},
            capture_output=True,
            text=True,
            check=False,
        )

    assert check(free).returncode == 0
    refused = check(free - 1)
    assert refused.returncode == 1
    assert f"needs {free} GiB on /, which has {free - 1} free" in refused.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_holds_packages_types_and_weights(wheel: set[str]) -> None:
    assert {"regl_app/py.typed", "client_app/main.py", "server_app/main.py"} <= wheel
    weights = [name for name in wheel if name.endswith(".safetensors")]
    assert len([name for name in weights if name.startswith("regl_app/generator/")]) >= 3


def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    version = PYPROJECT["project"]["version"]
    assert tops == {"regl_app", "client_app", "server_app", f"regl_app-{version}.dist-info"}
