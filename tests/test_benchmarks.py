"""The tables of the documentation can be made: their rows are configurations that run."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.parsing import parse_variants
from regl_app.runs.statistics import paired

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    read: dict[str, dict[str, Any]] = importlib.import_module("feddpd").read_tables()
    return read


def test_every_row_is_a_valid_configuration(tables: dict[str, dict[str, Any]]) -> None:
    assert len([name for name in tables if name.startswith("grid-")]) == 27
    for each in tables.values():
        for settings in parse_variants(each["rows"]).values():
            source = {"data.source": each["source"], "partition.beta": float(each["beta"])}
            needs = {"data.path": "somewhere"} if each["source"] != "digits" else {}
            RunConfig.from_flat({**source, **needs, **each.get("settings", {}), **settings})


def test_a_comma_in_a_setting_separates_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    table = importlib.import_module("table")
    rows = ["fedavg", "two:fedavg+train.augment=flip,crop+rounds=3", "regl+trackers=wandb,mlflow"]
    assert table.rows_of(",".join(rows)) == rows
    assert table.rows_of("x:regl,central,fedavg+device=cuda:1,y:regl+rounds=1") == [
        *("x:regl", "central", "fedavg+device=cuda:1", "y:regl+rounds=1")
    ]
    # What is no method is refused by its own name.
    assert table.rows_of("fedavg,regal") == ["fedavg", "regal"]


def test_results_are_of_the_rows_that_the_tables_name(tables: dict[str, dict[str, Any]]) -> None:
    assert any((BENCHMARKS / "results" / f"{name}.json").is_file() for name in tables)
    for name, each in tables.items():
        result = BENCHMARKS / "results" / f"{name}.json"
        if result.is_file():
            rows = list(parse_variants(each["rows"]))
            assert json.loads(result.read_text(encoding="utf-8"))["methods"] == rows, name


def test_the_numbers_over_a_table_are_its_results(tables: dict[str, dict[str, Any]]) -> None:
    text = (BENCHMARKS / "feddpd.toml").read_text(encoding="utf-8")
    said = dict(
        re.findall(r"(?m)^# python benchmarks/feddpd.py ([\w.-]+).*\n((?:# .*\n)+)\[", text)
    )
    measured = [
        name
        for name, each in tables.items()
        if (BENCHMARKS / "results" / f"{name}.json").is_file() and "of" not in each
    ]
    assert sorted(said) == sorted(measured)
    for name, comment in said.items():
        table = (BENCHMARKS / "results" / f"{name}.md").read_text(encoding="utf-8")
        said_of = "long-tail" if "long-tail accuracy" in comment else "global"
        (header,) = re.findall(r"(?m)^\| method \|.*$", table)
        column = [name.strip() for name in header.split("|")].index(f"{said_of} accuracy %")
        for row in parse_variants(tables[name]["rows"]):
            seeds = tables[name].get("seeds", 3)
            (line,) = re.findall(rf"(?m)^\| {re.escape(row)} \|.*±.*/{seeds} \|.*$", table)
            mean = line.split("|")[column].split("±")[0].strip()
            assert f"{row} {mean}" in comment.replace("\n# ", " "), name


def _made_by_bench(*given: str) -> list[str]:
    """Return the benchmarks' commands of `make bench DATA=there`, none of which runs."""
    command = ["make", "-n", "bench", "DATA=there", *given]
    environment = {key: value for key, value in os.environ.items() if key != "SEEDS"}
    told = subprocess.run(
        command,
        cwd=BENCHMARKS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = told.stdout.replace("\\\n", "").splitlines()
    return [line for line in lines if re.search(r"python benchmarks/\w+\.py", line)]


def test_making_the_tables_again_takes_as_many_seeds_as_they_have() -> None:
    made = _made_by_bench()
    assert [line for line in made if "--seeds" in line and "limits.py" not in line] == []
    given = _made_by_bench("SEEDS=7")
    seeded = {line.split()[1] for line in given if "--seeds 7" in line}
    assert seeded == {"benchmarks/rejections.py"} | {
        f"benchmarks/{name}.py"
        for name in ("feddpd", "judgement", "limits", "margins", "purity", "real_images", "table")
    }
    named = {name for line in made for name in re.findall(r"benchmarks/(\w+)\.py", line)}
    assert {"feddpd", "purity", "looks", "limits", "table"} < named
    assert {"who_holds_what", "real_images", "rejections"} < named


def test_the_page_of_results_holds_what_was_measured() -> None:
    page = BENCHMARKS / "page.py"
    found = subprocess.run([sys.executable, page, "--check"], check=False)
    assert found.returncode == 0, "run `python benchmarks/page.py`"


def _differences(tables: Iterable[str], own: str, base: str) -> set[str]:
    """Return ``own`` less ``base`` in points, paired by seed, by every table that has both."""
    found: set[str] = set()
    for name in tables:
        path = BENCHMARKS / "results" / f"{name}.json"
        held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for of in ("accuracy", "tail_accuracy", "mean_accuracy", "rounds_to_target"):
            ends: dict[str, dict[int, float]] = {own: {}, base: {}}
            for run in held.get("outcomes", ()):
                if run["method"] in ends and run.get(of) is not None:
                    ends[run["method"]][run["seed"]] = run[of]
            if (points := paired(ends[own], ends[base])) is not None:
                found.add(points.text(1 if of == "rounds_to_target" else 100))
    return found


PROSE = {
    # Beside those of the page the one that it calls the other one.
    "docs/methods.md": ["all-fashion-mnist-beta0.01"],
    "README.md": [
        *(f"{name}-digits-beta0.01" for name in ("cosine", "volume-taught", "private")),
        *(f"{name}-mnist-beta0.01" for name in ("all", "all100", "beside100", "shared", "first")),
        *(f"{name}-fashion-mnist-beta0.01" for name in ("all", "cosine", "shared", "matched")),
        *(f"{name}100-fashion-mnist-beta0.01" for name in ("clients", "beside", "matched")),
    ],
}
"""Tables beside a page's own that its prose is about."""

LESS = re.compile(r"`([\w-]+)`((?:,? less `[\w-]+`[^`(±]{0,30}?-?\d+\.\d ± \d+\.\d)+)")


@pytest.mark.parametrize(
    "page", ["README.md", "docs/feddpd-results.md", "docs/teaching-results.md"]
)
def test_what_is_told_of_two_rows_is_their_difference(page: str) -> None:
    text = (BENCHMARKS.parent / page).read_text(encoding="utf-8")
    tables = {*re.findall(r"<!-- ([\w.-]+) -->", text), *PROSE.get(page, ())}
    told = LESS.findall(" ".join(text.split()))
    assert told
    for own, rest in told:
        for base, points in re.findall(r"less `([\w-]+)`.*?(-?\d+\.\d ± \d+\.\d)", rest):
            assert points in _differences(tables, own, base), f"{own} less {base}: {points}"


def test_differences_are_those_of_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    text = importlib.import_module("differences").as_markdown()
    assert (BENCHMARKS / "results" / "differences.md").read_text(encoding="utf-8") == text
    assert text.count("±") > 25


@pytest.mark.parametrize("page", PROSE)
def test_what_a_page_tells_in_prose_is_of_two_rows_or_in_a_table(page: str) -> None:
    """It finds figures that no table has; whose they are, the test above knows."""
    lines = (BENCHMARKS.parent / page).read_text(encoding="utf-8").splitlines()
    interval = re.compile(r"\d+\.\d ± \d+\.\d")
    known = set(interval.findall("\n".join(line for line in lines if line.startswith("|"))))
    named = [*re.findall(r"<!-- ([\w.-]+) -->", "\n".join(lines)), *PROSE[page]]
    results = [BENCHMARKS / "results" / f"{name}.json" for name in named]
    for path in (path for path in results if path.is_file()):
        held = json.loads(path.read_text(encoding="utf-8"))
        for own, base in itertools.permutations(held["methods"], 2):
            known |= _differences([path.stem], own, base)
    told = interval.findall(" ".join(line for line in lines if not line.startswith("|")))
    assert len(told) >= 10
    assert [each for each in told if each not in known] == []


def test_rows_of_one_name_that_share_run_folders_are_the_same(
    tables: dict[str, dict[str, Any]],
) -> None:
    seen: dict[tuple[str, str], object] = {}
    for name, each in tables.items():
        for row, settings in parse_variants(each["rows"]).items():
            key = (each.get("runs", name), row)
            full = (each["source"], each["beta"], each.get("settings", {}), settings)
            assert seen.setdefault(key, full) == full, key


def test_joined_tables_are_of_their_parts_as_they_are(tables: dict[str, dict[str, Any]]) -> None:
    def runs(name: str) -> list[Any]:
        path = BENCHMARKS / "results" / f"{name}.json"
        return list(json.loads(path.read_text(encoding="utf-8"))["outcomes"])

    joined = [
        name
        for name, each in tables.items()
        if "of" in each and (BENCHMARKS / "results" / f"{name}.json").is_file()
    ]
    assert joined
    for name in joined:
        assert runs(name) == [run for part in tables[name]["of"] for run in runs(part)], name


def test_a_joined_table_pairs_rows_that_were_measured_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    join = importlib.import_module("join").join
    machine = dict.fromkeys(("processor", "processors", "device", "torch", "flwr"), "x")
    for part, row, values in (("a", "fedavg", (0.5, 0.7)), ("b", "regl", (0.6, 0.8))):
        runs = [
            {
                "method": row,
                "seed": seed,
                "digest": "",
                "rounds": 10,
                "accuracy": value,
                "best_accuracy": value,
                "macro_f1": value,
                "personalized": value,
                "own_models": value,
                "rounds_to_target": None,
                "seconds": 1.0,
            }
            | ({"mean_accuracy": value} if part == "b" else {})
            for seed, value in enumerate(values)
        ]
        content = {
            "methods": [row],
            "seeds": [0, 1],
            "clients": 10,
            "outcomes": runs,
            "failures": [],
            "settings": {"partition.beta": 0.01},
            "machine": machine | {"date": "2026-11-29T", "revision": f"of-{part}"},
        }
        (tmp_path / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")
    text = join("all", ["a", "b"], "both", tmp_path)
    assert "| regl | 10.0 ± 0.0 |" in text
    assert "mean of all rounds" not in text  # the one part is of before it was told
    assert text.endswith("revision of-a; regl: 2026-11-29, revision of-b.\n")
    held = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert held["methods"] == ["fedavg", "regl"]
    assert {path.name for path in tmp_path.glob("all.*")} == {"all.json", "all.md", "all.svg"}
    content["machine"]["processor"] = "y"
    (tmp_path / "b.json").write_text(json.dumps(content), encoding="utf-8")
    text = join("all", ["a", "b"], "both", tmp_path)
    assert text.endswith("revision of-a; regl: y; 2026-11-29, revision of-b.\n")
    content["seeds"] = [0, 2]
    (tmp_path / "b.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"b: seeds \[0, 2\], a: \[0, 1\]"):
        join("all", ["a", "b"], "both", tmp_path)
    with pytest.raises(SystemExit, match=r"c.json is not there: python benchmarks/feddpd.py c"):
        join("all", ["a", "c"], "both", tmp_path)


def test_the_demos_picture_names_each_curve_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    draw = importlib.import_module("demo_picture").picture
    root = ElementTree.fromstring(draw({"fedavg": [0.1, 0.891], "regl": [0.1, 0.97]}))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"fedavg 89.1%", "regl 97.0%"} <= set(texts)
    names = [each for each in root.iter() if each.get("class") == "name"]
    lower, upper = (float(each.get("y", "")) for each in names)
    assert lower - upper >= 20  # neither name covers the other


def test_the_table_of_looks_shows_what_lies_beside_the_generators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    purity = {"samples": 0.5, "held_out": 0.6, "undisguised": 0.9, "per_class": [0.75, None, 0.25]}
    steps = {"autoencoder_steps": 800, "denoiser_steps": 1500}
    made = {"shrunk": {"accuracy": 0.875, "purity": purity, **steps}}
    text = importlib.import_module("looks").table({"inverted": 0.04, "shrunk": 0.6}, made)
    assert text.splitlines()[2:] == [
        "| shrunk | 60.0 | 50.0 | 25.0 | 87.5 | 800 + 1,500 |",
        "| inverted | 4.0 |  |  |  |  |",
    ]


def test_benchmarks_use_the_library_and_not_the_command() -> None:
    for path in BENCHMARKS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("regl_app"):
                names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
                assert "cli" not in names, path
                assert not any(name.startswith("_") for name in names), path


def test_agreement_is_whole_with_the_counts_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    agreement = importlib.import_module("who_holds_what").agreement
    real = np.array([[6.0, 0.0, 2.0, 0.0], [2.0, 3.0, 0.0, 0.0]])  # nobody holds the fourth
    assert agreement(2 * real, real) == pytest.approx({"class": 1, "client": 1, "say": 1})
    turned = agreement(real[::-1], real)
    assert turned["class"] == pytest.approx(-1)
    assert turned["say"] == pytest.approx((0.5 + 0 + 0) / 3)


def test_every_row_of_who_holds_what_is_a_valid_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("who_holds_what")
    says = {
        name: RunConfig.from_flat(module.BASE).updated(row).say for name, row in module.ROWS.items()
    }
    assert (says["counts"], says["updates"]) == ("counts", "updates")
    assert {say for name, say in says.items() if name.startswith("noisy")} == {"noisy"}


def test_the_shapes_that_a_gpu_is_measured_on_are_the_public_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    shapes = importlib.import_module("shapes").SHAPES
    # As the checkpoints' model cards and files have it.
    expected = {
        "sd15": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
        "sdxl": {
            "unet": 2_567_463_684,
            "vae": 83_653_863,
            "text_encoder": 123_060_480,
            "text_encoder_2": 694_659_840,
        },
    }
    for name, counts in expected.items():
        with torch.device("meta"):
            parts = shapes[name].parts()
        found = {part: sum(p.numel() for p in m.parameters()) for part, m in parts.items()}
        assert found == counts
        factor = 2 ** (len(parts["vae"].config.block_out_channels) - 1)
        assert shapes[name].size == parts["unet"].config.sample_size * factor


@pytest.mark.parametrize("shape", ["tiny", "tiny-xl"])
def test_both_sides_of_the_gpu_benchmark_do_the_same_work(
    shape: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    few = "--images 3 --batch 2 --steps 2 --naive-images 1 --naive-steps 2 --tuning-steps 2"
    few += " --tuning-batch 2 --uploads 2 --scored 4 --per-class 1 --probe 1 --lora-steps 1"
    options = ["--shape", shape, "--precision", "fp32", "--device", "cpu", "--repeats", "1"]
    importlib.import_module("gpu").main([*options, *few.split()])
    (result,) = (tmp_path / "runs" / "benchmarks").glob("*.json")  # not among the tables' results
    found = json.loads(result.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [
        "a client's first round",  # first: nothing is warm
        "a second client of the same worker",
        "images, 2 at once",
        "images, one at a time there",
        "LoRA steps of 2",
        "preferences, 2 pairs a step",
        "uploads scored, 2",
    ]
    # The same noise, prompts, guidance and steps: the same images but for rounding.
    assert rows["images, 2 at once"]["apart"] < 0.1
    assert rows["uploads scored, 2"]["apart"] < 1e-4
    assert rows["a client's first round"]["note"].endswith("10 made")
    assert {"adapt", "generate", "train", "all"} <= set(rows["a client's first round"]["parts"])
    assert "memory not measured" in rows["a second client of the same worker"]["note"]
    assert found["machine"]["revision"]
    for row in rows.values():
        assert row["command"] in result.with_suffix(".md").read_text(encoding="utf-8")
        assert row["ours"]["rate"] > 0 and row["ours"]["peak"] is None  # no GPU, no figure
    text = result.with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("**No GPU")
    assert f"--shape {shape} --batch 2 --images 3" in text


@pytest.fixture
def quick_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the GPU benchmark, whose tuning rows take no time and whose others fail."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module, sides = importlib.import_module("gpu"), importlib.import_module("gpu_sides")

    def row(name: str) -> Any:
        return sides.Row(name, sides.Side(2.0, None), sides.Side(1.0, None), "the same")

    for name in ("first_round", "next_client", "images", "scoring"):
        monkeypatch.delattr(sides.Benchmark, name)
    monkeypatch.setattr(sides.Benchmark, "tuning", lambda _: [row("LoRA")])
    monkeypatch.setattr(sides.Benchmark, "preferences", lambda _: [row("preferences")])
    monkeypatch.setattr(module, "build", lambda *_: None)
    monkeypatch.setattr(sides.Benchmark, "__init__", lambda *_: None)
    return module


def test_a_gpu_s_rows_are_kept_and_told_as_they_are_measured(
    quick_gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--shape", "tiny", "--device", "cpu", "--out", str(tmp_path)]
    with pytest.raises(AttributeError):  # the uploads' row cannot be measured
        quick_gpu.main([*options, "--only", "uploads,lora"])
    result = tmp_path / "gpu-tiny.json"
    names = [row["name"] for row in json.loads(result.read_text(encoding="utf-8"))["rows"]]
    assert names == ["LoRA"]  # in the order of all rows
    assert "LoRA" in (tmp_path / "gpu-tiny.md").read_text(encoding="utf-8")
    assert "LoRA: 2 a second, 1 there" in capsys.readouterr().out


def test_a_later_call_adds_its_rows_to_those_of_the_same_card_and_code(
    quick_gpu: Any, tmp_path: Path
) -> None:
    options = ["--shape", "tiny", "--device", "cpu", "--out", str(tmp_path)]
    quick_gpu.main([*options, "--only", "preferences"])
    quick_gpu.main([*options, "--only", "lora", "--tuning-steps", "7"])
    result = tmp_path / "gpu-tiny.json"
    found = json.loads(result.read_text(encoding="utf-8"))
    commands = {row["name"]: row["command"] for row in found["rows"]}
    assert list(commands) == ["LoRA", "preferences"]
    assert commands["LoRA"].endswith("--tuning-steps 7 --device cpu --only lora")
    assert commands["preferences"].endswith("--only preferences")
    # Its own result, in a folder of git's, makes a tree dirty: it is the same code.
    clean = found["machine"]["revision"].removesuffix("-dirty")
    found["machine"]["revision"] = f"{clean}-dirty"
    result.write_text(json.dumps(found), encoding="utf-8")
    quick_gpu.main([*options, "--only", "lora"])
    assert len(json.loads(result.read_text(encoding="utf-8"))["rows"]) == 2
    found["machine"]["device"] = "cuda: another"
    before = json.dumps(found)
    result.write_text(before, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"gpu-tiny.json.*device 'cuda: another'.*--out"):
        quick_gpu.main([*options, "--only", "lora"])
    assert result.read_text(encoding="utf-8") == before


def test_an_unknown_row_of_a_gpu_is_refused_with_the_list(
    quick_gpu: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        quick_gpu.main(["--only", "lora,nothing"])
    told = capsys.readouterr().err
    assert "'nothing'" in told
    assert "first-round, next-client, images, lora, preferences, uploads" in told


def test_a_checkpoint_of_full_size_is_checked_by_code_that_also_runs_on_a_tiny_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    check = importlib.import_module("full_size").main
    options = ["--shape", "tiny", "--steps", "2", "--out", str(tmp_path)]
    assert check(options) == 0
    found = json.loads((tmp_path / "full_size.json").read_text(encoding="utf-8"))
    parts = {part["name"]: part for part in found["parts"]}
    assert list(parts) == ["loaded", "an image drawn", "a step of LoRA", "a step of preferences"]
    for part in parts.values():
        assert part["seconds"] > 0 and part["computed"] > 0 and 0.1 < part["peak"] < 20
    assert "32 x 32 pixels, 2 steps" in parts["an image drawn"]["seen"]
    assert "weights tuned" in parts["a step of preferences"]["seen"]
    text = (tmp_path / "full_size.md").read_text(encoding="utf-8")
    assert "`python benchmarks/full_size.py --shape tiny --steps 2`" in text
    assert check([*options, "--limit", "0.1"]) == 1
    assert "more than the 0.1 GB of --limit" in capsys.readouterr().out


def test_the_page_shows_what_the_check_of_full_size_measured() -> None:
    found = json.loads((BENCHMARKS / "results" / "full_size.json").read_text(encoding="utf-8"))
    assert found["shape"] == "sd15"
    assert all(part["peak"] < 20 for part in found["parts"])
    text = (BENCHMARKS / "results" / "full_size.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("|")]
    page = (BENCHMARKS.parent / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    assert len(table) == 2 + len(found["parts"]) and "\n".join(table) in page
    assert found["machine"]["revision"] in page


def test_the_memory_of_a_process_is_read_and_pictures_are_as_many_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    loading = importlib.import_module("data_loading")
    found = loading.memory_of(os.getpid())
    assert 0 < found["anonymous"] <= found["uss"] <= found["pss"] + 2**20
    assert loading.memory_of(2**31 - 1) == {}
    for links in (True, False):
        loading.write_pictures(tmp_path / str(links), 9, links=links)
        files = list((tmp_path / str(links)).rglob("*.jpg"))
        assert len(files) == 9 and len({file.stat().st_ino for file in files}) == (
            1 if links else 9
        )
