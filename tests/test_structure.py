"""The house rules: where things live, which way imports run, what no file may become."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = ("core", "config", "data", "learning", "generator", "supplement")
# What a package may import of ours beside itself; rounds and runs do not know each other.
ALLOWED = {
    **{package: set(GROUND[:place]) for place, package in enumerate(GROUND)},
    "rounds": set(GROUND),
    "runs": set(GROUND),
    "flower": {*GROUND, "rounds", "runs"},
    "cli": {*GROUND, "rounds", "runs", "flower"},
}
# Borrowed where nothing of our own would be better; imported when first used.
NOT_FOR = {
    "regl_app": ("client_app", "server_app", "benchmarks"),
    "client_app": ("server_app", "benchmarks"),
    "server_app": ("client_app", "benchmarks"),
}
MAY_NAME_FLOWER = {
    "regl_app/cli/doctor/superlink.py": "the clock skew that Flower accepts",
    "regl_app/supplement/privacy.py": "its privacy accountant",
    "regl_app/data/schemes/iid.py": "flwr_datasets' partitioner",
    "regl_app/data/schemes/dirichlet.py": "flwr_datasets' partitioner",
    "regl_app/data/schemes/pathological.py": "flwr_datasets' partitioner",
    "regl_app/data/schemes/shard.py": "flwr_datasets' partitioner",
    "regl_app/config/partitioners.py": "flwr_datasets' partitioners, by name",
}
MOST_LINES = 500


@cache
def sources() -> tuple[Path, ...]:
    """Return the Python files of the library and the apps."""
    packages = ("regl_app", "client_app", "server_app")
    return tuple(sorted(path for name in packages for path in (ROOT / name).rglob("*.py")))


def module_of(path: Path) -> str:
    """Return a file's module name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports anywhere in it, types and lazy imports included."""
    known = {module_of(source) for source in sources()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative imports hide their target"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if name in known]
            yield from found
            if len(found) < len(inner):
                yield node.module


def test_imports_run_one_way() -> None:
    upward = []
    for path in sources():
        parts = module_of(path).split(".")
        for name in imports(path):
            target = name.split(".")
            commands = target[:2] == ["regl_app", "cli"] != parts[:2]
            if target[0] in NOT_FOR[parts[0]] or commands:
                upward.append(f"{module_of(path)} -> {name}")
            # The door hands on names of all packages: nothing behind it goes through it.
            if name == "regl_app" and parts[0] == "regl_app":
                upward.append(f"{module_of(path)} -> the door")
            if parts[0] == target[0] == "regl_app" and len(parts) > 1 and len(target) > 1:
                own, other = parts[1], target[1]
                if own != other and other not in ALLOWED[own]:
                    upward.append(f"{module_of(path)} -> {name}")
    assert upward == []


def test_no_file_imports_itself_over_others() -> None:
    edges = {module_of(path): set(imports(path)) for path in sources()}
    done: set[str] = set()

    def circle(module: str, above: tuple[str, ...]) -> tuple[str, ...] | None:
        if module in above:
            return (*above[above.index(module) :], module)
        if module in done:
            return None
        for other in sorted(edges.get(module, ())):
            found = circle(other, (*above, module))
            if found:
                return found
        done.add(module)
        return None

    found = [each for module in sorted(edges) if (each := circle(module, ()))]
    assert found == [], " -> ".join(found[0]) if found else ""


def test_flower_is_imported_in_its_place_only() -> None:
    places = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if any(re.match(r"flwr(_datasets)?(\.|$)", name) for name in imports(path))
    }
    library = {place for place in places if place.startswith("regl_app/")}
    elsewhere = {place for place in library if not place.startswith("regl_app/flower/")}
    assert elsewhere == set(MAY_NAME_FLOWER)


def test_a_production_server_does_not_import_the_in_process_engine() -> None:
    edges = {module_of(path): set(imports(path)) for path in sources()}
    reached = {module for module in edges if module.startswith(("client_app", "server_app"))}
    while more := {other for module in reached for other in edges.get(module, ())} - reached:
        reached |= more
    assert "regl_app.flower.messages.train" in reached
    assert "regl_app.flower.engines.in_process" not in reached


def test_no_file_is_long() -> None:
    files = [*sources(), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in files}
    assert {str(path): count for path, count in lines.items() if count > MOST_LINES} == {}


def test_no_module_lies_loose_in_the_library() -> None:
    loose = {path.name for path in (ROOT / "regl_app").iterdir() if path.is_file()}
    assert loose == {"__init__.py", "py.typed"}
    folders = {path.parent.name for path in (ROOT / "regl_app").glob("*/__init__.py")}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize(
    "init",
    [path for path in sources() if path.name == "__init__.py"],
    ids=lambda path: path.parent.relative_to(ROOT).as_posix(),
)
def test_every_folder_says_what_lives_there(init: Path) -> None:
    text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))
    assert text and len(text) > 15 and "TODO" not in text
