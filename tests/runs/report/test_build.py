"""The report's content: complete, escaped, honest about what is absent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.runs.folder import UNHEARD, RunFolder
from regl_app.runs.records import FederationFacts, GlobalMetrics, RoundRecord, RunResult
from regl_app.runs.report.build import build_report
from regl_app.runs.report.conditions import conditions
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.run_words import key_settings, lede

RunMaker = Callable[..., Path]

FIGURES = {
    "accuracy",
    "personalized",
    "loss",
    "recall",
    "confusion",
    "scores",
    "partition",
    "distance",
    "histogram",
    "clients",
    "discrepancy",
    "quotas",
    "samples",
    "quality",
    "tsne",
    "seconds-round",
    "seconds-client",
    "bytes",
}


def _ids(html: str) -> set[str]:
    return set(re.findall(r'<figure id="([^"]+)"', html))


def _absent(html: str) -> str:
    return " ".join(re.findall(r'<p class="absent">(.*?)</p>', html, flags=re.S))


@pytest.fixture(scope="module")
def full(make_run: RunMaker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of a run that has everything."""
    folder = tmp_path_factory.mktemp("full")
    out = build_report([make_run(folder, method="regl-dpd")], folder / "report.html")
    return out.read_text()


def test_every_figure_is_there(full: str) -> None:
    assert _ids(full) == FIGURES
    assert 'class="absent"' not in full


def test_every_figure_is_named_and_explained(full: str) -> None:
    figures = re.findall(r"<figure .*?</figure>", full, flags=re.S)
    assert len(figures) == len(FIGURES)
    for figure in figures:
        assert 'aria-label="' in figure
        assert re.search(r"<figcaption>.{30,}?</figcaption>", figure, flags=re.S)
        assert 'role="img"' in figure


def test_the_file_stands_alone_and_is_small(full: str) -> None:
    addresses = re.findall(r'(?:href|src)="([^"]*)"', full)
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "http://" not in full
    assert "https://" not in full
    assert "url(" not in full
    assert len(full.encode()) < 1_500_000


def test_the_result_comes_before_the_figures(full: str) -> None:
    assert full.index("<h1>") < full.index('class="tiles"') < full.index("<figure")
    assert "Dirichlet labels with β = 0.05" in full


def test_a_changed_key_is_marked(full: str) -> None:
    assert re.search(r'class="set"><dt>partition.beta</dt><dd>0.05</dd>', full)
    assert re.search(r"<div><dt>partition.scheme</dt><dd>dirichlet</dd>", full)
    assert re.search(r"<div><dt>supplement.policy</dt><dd>discrepancy</dd>", full)


def test_the_discrepancy_to_the_untrained_model_is_left_out(full: str) -> None:
    assert re.search(r"lacks is [\d.]+ in round 2 and <b>[\d.]+</b> in round 10", full)


def test_the_quality_of_images_is_told_without_classes_where_these_are_private(
    make_run: RunMaker, tmp_path: Path
) -> None:
    path = make_run(tmp_path, method="regl")
    history = path / "history.jsonl"
    records = [json.loads(line) for line in history.read_text().splitlines()]
    for record in records:
        record["quality"] = None
    history.write_text("".join(json.dumps(record) + "\n" for record in records))
    html = build_report([path], tmp_path / "report.html").read_text()
    assert "quality" in _ids(html)
    assert "The classes stay private." in html
    for record in records:
        record["clients"] = {}
    history.write_text("".join(json.dumps(record) + "\n" for record in records))
    html = build_report([path], tmp_path / "report.html").read_text()
    assert "How good the synthetic images are</b> is not shown: nothing was measured" in html


def test_a_run_without_generator_says_so(make_run: RunMaker, tmp_path: Path) -> None:
    run = make_run(tmp_path, method="fedavg", rounds=3)
    html = build_report([run], tmp_path / "r.html").read_text()
    missing = {"histogram", "discrepancy", "quotas", "samples", "quality", "distance"}
    assert FIGURES - _ids(html) == missing
    assert "method fedavg uses no synthetic images" in _absent(html)


def test_one_model_of_all_data_is_no_clients_own(make_run: RunMaker, tmp_path: Path) -> None:
    for method, told in (("fedavg", True), ("central", False)):
        run = make_run(tmp_path, method=method, rounds=2)
        html = build_report([run], tmp_path / f"{method}.html").read_text()
        assert ("own models after local training" in html) is told
        assert ("own model (mean)" in html) is told


def test_a_bare_history_is_enough(make_run: RunMaker, tmp_path: Path) -> None:
    run = make_run(tmp_path, method="fedavg", bare=True, rounds=1)
    html = build_report([run], tmp_path / "r.html").read_text()
    assert _ids(html) == {"accuracy", "loss", "recall"}
    for words in ("label counts were kept private", "no bytes", "stored no features"):
        assert words in _absent(html)


def test_a_failed_run_without_a_round_is_told(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    folder.write_result(RunResult(status="failed", seconds=1.0, error="no usable replies"))
    html = build_report([folder.path], tmp_path / "r.html").read_text()
    assert "no usable replies" in html
    assert _ids(html) == set()
    assert 'class="failed"' in html


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>{{ 7*7 }}\"'"
    config = RunConfig.from_flat({"generator.prompt": evil + "{concept}"})
    folder = RunFolder.create(config, tmp_path)
    folder.write_facts(
        FederationFacts(class_names=[evil, "b"], num_clients=1, train_counts=[[3, 0]])
    )
    metrics = GlobalMetrics(accuracy=0.5, macro_f1=0.5, loss=1.0, per_class=[0.1, 0.9])
    folder.append_round(RoundRecord(round=1, metrics=metrics, failures=[evil]))
    html = build_report([folder.path], tmp_path / "r.html").read_text()
    assert "<script>alert" not in html
    assert "{{ 7*7 }}" in html


def test_damaged_pictures_do_not_cost_the_report(make_run: RunMaker, tmp_path: Path) -> None:
    run = make_run(tmp_path, method="regl", rounds=1)
    for path in (run / "samples").glob("*.npz"):
        path.write_bytes(b"PK")
    (run / "features.npz").write_bytes(b"")
    html = build_report([run], tmp_path / "r.html").read_text()
    assert {"samples", "tsne"} & _ids(html) == set()
    assert "the files of sample pictures cannot be read" in _absent(html)
    assert "accuracy" in _ids(html)


def test_a_history_from_before_there_were_numbers_per_class_is_read(
    make_run: RunMaker, tmp_path: Path
) -> None:
    run = make_run(tmp_path, method="fedavg", rounds=1)
    path = run / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for name in ("precision", "f1", "confusion"):
            del line["metrics"][name]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = build_report([run], tmp_path / "r.html").read_text()
    assert "Precision, recall and F1 per class</b> is not shown: it was not recorded" in html
    assert "recall" in _ids(html)


def test_no_runs_and_no_run_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="at least one"):
        build_report([], tmp_path / "r.html")
    with pytest.raises(RunError, match=r"no config\.json"):
        build_report([tmp_path], tmp_path / "r.html")


def test_many_clients_and_classes(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "regl"}), tmp_path)
    names = [f"a rather long class name {label}" for label in range(62)]
    counts = [[(k * c) % 7 for c in range(62)] for k in range(60)]
    folder.write_facts(FederationFacts(class_names=names, num_clients=60, train_counts=counts))
    metrics = GlobalMetrics(accuracy=0.5, macro_f1=0.5, loss=1.0, per_class=[0.5] * 62)
    for number in (1, 2):
        folder.append_round(
            RoundRecord(round=number, metrics=metrics, synthetic_counts=counts, quotas=counts)
        )
    html = build_report([folder.path], tmp_path / "r.html").read_text()
    assert {"partition", "histogram", "clients", "quotas"} <= _ids(html)
    assert len(html.encode()) < 3_000_000


def test_runs_that_differ_only_in_seed_are_one_row(make_run: RunMaker, tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, method=method, seed=seed, rounds=2, bare=True)
        for method in ("fedavg", "regl")
        for seed in (0, 1)
    ]
    html = build_report(runs, tmp_path / "r.html").read_text()
    table = html[html.index('id="comparison"') : html.index('id="curves"')]
    assert table.count("2 seeds") == 2
    assert {"compare-accuracy", "compare-loss", "compare-f1"} <= _ids(html)
    assert {"run1-accuracy", "run4-accuracy"} <= _ids(html)
    (headline,) = re.findall(r"<h1>(.*?)</h1>", html)
    assert re.sub(r"<.*?>", "", headline) == "regl ends at 43.6 %, within chance of fedavg"


def test_labels_name_what_differs(make_run: RunMaker, tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, method="fedavg", bare=True, rounds=1),
        make_run(tmp_path, method="fedavg", bare=True, rounds=1, partition__beta=0.1),
        make_run(tmp_path, method="regl", bare=True, rounds=1, lora__rank=4),
    ]
    groups = conditions([RunData.load(run) for run in runs])
    assert [group.label for group in groups] == [
        "fedavg (beta 0.05)",
        "fedavg (beta 0.1)",
        "regl (beta 0.05, rank 4)",
    ]


def test_settings_say_what_auto_became_where_it_is_known(
    make_run: RunMaker, tmp_path: Path
) -> None:
    path = str(tmp_path / "sd")  # of the bundled generator 'auto' is known
    run = RunData.load(make_run(tmp_path, method="regl", bare=True, rounds=1, generator__path=path))
    assert ("Adapter", "rank auto, auto steps") in key_settings(run)  # only its clients know
    words = "Stable Diffusion of 512 px: generator.steps=30, lora.rank=16, lora.steps=500"
    known = replace(run, environment={**run.environment, "generator-settings": words})
    assert ("Adapter", "rank 16, 500 steps") in key_settings(known)
    assert any(value.startswith("sd, 30 steps") for _, value in key_settings(known))
    named = replace(known, config=run.config.updated({"lora.rank": 4}))
    assert ("Adapter", "rank 4, 500 steps") in key_settings(named)
    older = replace(run, environment={})
    assert not any(key == "Precision" for key, _ in key_settings(older))
    precise = replace(run, environment={"generator-precision": "bf16, weights held in fp32"})
    assert ("Precision", "bf16, weights held in fp32") in key_settings(precise)
    assert not any(key == "Matched" for key, _ in key_settings(run))
    matched = replace(run, config=run.config.updated({"supplement.match": "spectrum"}))
    assert any(key == "Matched" and "mean spectrum" in say for key, say in key_settings(matched))
    odd = replace(run, environment={"generator-settings": "else of 8 px: lora.rank=none, a"})
    assert ("Adapter", "rank auto, auto steps") in key_settings(odd)


def test_every_prompt_is_in_the_report(make_run: RunMaker, tmp_path: Path) -> None:
    folder = RunFolder(make_run(tmp_path, method="regl", bare=True, rounds=1))
    names = [f"kind-{number}" for number in range(12)]
    texts = [[f"a photo of {name}", f"<i>{name}"] for name in names]
    folder.write_facts(FederationFacts(class_names=names, num_clients=1, prompts=texts))
    html = build_report([folder.path], tmp_path / "r.html").read_text()
    found = re.search(r"<details><summary>Every prompt <span>(.*?)</details>", html, flags=re.S)
    assert found is not None and found[1].startswith("12 classes")
    for name in names:
        assert f"<dt>{name}</dt><dd>a photo of {name} | &lt;i&gt;{name}</dd>" in found[1]
    # Among the settings the first three.
    assert html.index("; and 9 more</dd>") < html.index("Every prompt")
    assert "<i>kind" not in html


def test_a_run_that_draws_nothing_has_no_prompts(make_run: RunMaker, tmp_path: Path) -> None:
    run = make_run(tmp_path, method="fedavg", bare=True, rounds=1)
    assert "Every prompt" not in build_report([run], tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("keys", "environment", "heard"),
    [
        ({}, {}, True),
        ({}, {UNHEARD: "has no effect"}, False),
        ({"generator__guidance": 1.0}, {}, False),
        ({"generator__guidance-stop": 0.0}, {}, False),
        (
            {"generator__path": "/sd"},
            {"generator-settings": "SD of 8 px: generator.guidance=1.0"},
            False,
        ),
    ],
)
def test_a_negative_prompt_is_named_where_it_is_not_known_to_be_unheard(
    make_run: RunMaker,
    tmp_path: Path,
    keys: dict[str, Any],
    environment: dict[str, str],
    heard: bool,
) -> None:
    away = {"generator__negative-prompt": "ugly"}
    run = RunData.load(make_run(tmp_path, method="regl", bare=True, rounds=1, **away, **keys))
    facts = FederationFacts(class_names=["cat"], num_clients=2, prompts=[["a cat"]])
    found = replace(run, facts=facts, environment={**run.environment, **environment})
    (line,) = [value for name, value in key_settings(found) if name == "Prompts"]
    assert line.endswith("away from 'ugly'") == heard


def test_labels_tell_the_papers_form_from_the_taught_one(
    make_run: RunMaker, tmp_path: Path
) -> None:
    forms = ({"method": "fedavg"}, {"method": "regl"}, {"method": "regl", "labels__by": "hard"})
    runs = [make_run(tmp_path, bare=True, rounds=1, **form) for form in forms]
    groups = conditions([RunData.load(run) for run in runs])
    assert [group.label for group in groups] == [
        "fedavg",
        "regl (labels global, head bounded)",
        "regl (labels hard, head average)",
    ]


@pytest.mark.parametrize(
    "incidental",
    [
        {"metrics_port": 9100},
        {"metrics_address": "0.0.0.0"},
        {"log_format": "json"},
        {"cache_limit": 1.0},
        {"server__timeout": 5.0},
        {"server__min_replies": 2},
        {"cache_dir": "/elsewhere"},
    ],
)
def test_seeds_are_one_configuration_whatever_was_shown_on_the_way(
    make_run: RunMaker, tmp_path: Path, incidental: dict[str, Any]
) -> None:
    runs = [
        make_run(tmp_path, method="fedavg", bare=True, rounds=1, seed=0),
        make_run(tmp_path, method="fedavg", bare=True, rounds=1, seed=1, **incidental),
    ]
    (group,) = conditions([RunData.load(run) for run in runs])
    assert len(group.runs) == 2


def test_sites_that_keep_their_counts_are_another_configuration(
    make_run: RunMaker, tmp_path: Path
) -> None:
    site: dict[str, Any] = {"method": "fedavg", "bare": True, "rounds": 1}
    site |= {"data__source": "site", "data__classes": "a,b"}
    runs = [
        make_run(tmp_path, **site),
        make_run(tmp_path, **site, share_diagnostics=False),
        make_run(tmp_path, method="fedavg", bare=True, rounds=1),  # where it decides nothing
    ]
    labels = [group.label for group in conditions([RunData.load(run) for run in runs])]
    assert len(set(labels)) == 3
    assert ["share-diagnostics" in label for label in labels] == [True, True, False]


def test_federations_of_other_sizes_are_no_seeds_of_one(make_run: RunMaker, tmp_path: Path) -> None:
    runs = [
        replace(
            RunData.load(make_run(tmp_path, method="fedavg", bare=True, rounds=1, seed=seed)),
            facts=FederationFacts(class_names=["a", "b"], num_clients=clients, test_images=1),
        )
        for seed, clients in enumerate((3, 3, 50))
    ]
    assert [(group.label, len(group.runs)) for group in conditions(runs)] == [
        ("fedavg (clients 3)", 2),
        ("fedavg (clients 50)", 1),
    ]


def test_runs_on_different_data_are_not_ranked(make_run: RunMaker, tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, method="fedavg", rounds=2, partition__beta=0.01),
        make_run(tmp_path, method="regl", rounds=2, partition__beta=0.5),
    ]
    html = build_report(runs, tmp_path / "r.html").read_text()
    assert "2 configurations on different data" in html
    assert "leads with" not in html
    assert "plain FedAvg" not in html


def test_a_run_without_a_round_is_not_given_what_it_had_not(
    make_run: RunMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = RunConfig.from_flat({"method": "fedavg", "partition.beta": 0.05, "rounds": 9})
    failed = RunFolder.create(config, tmp_path)
    runs = [failed.path, make_run(tmp_path, method="regl", bare=True, rounds=9, floor=0.99)]
    html = build_report(runs, tmp_path / "r.html").read_text()
    assert "clients 0" not in html and "<dt>Clients</dt><dd>0" not in html
    assert ">never<" not in html
    assert re.search(r"<h1>regl ends at <em>[\d.]+ %</em>, no other has a result to compare", html)
    assert f"no round was finished: {failed.name}" in caplog.text


def test_central_does_not_lead(make_run: RunMaker, tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, method="central", bare=True, rounds=9, floor=0.99),
        make_run(tmp_path, method="fedavg", bare=True, rounds=9, floor=0.3),
    ]
    html = build_report(runs, tmp_path / "r.html").read_text()
    assert re.search(r"<h1>fedavg ends at <em>[\d.]+ %</em></h1>", html)
    assert "below all data in one place" in html


def test_pictures_that_were_left_out_are_told(make_run: RunMaker, tmp_path: Path) -> None:
    run = RunData.load(make_run(tmp_path / "run"))
    assert "could not be read" not in lede(run) and run.facts is not None
    facts = run.facts.model_copy(update={"unreadable": 3})
    clients = {0: {"unreadable": 2}, 1: {"loss": 1.0}, 2: {"unreadable": "abc"}}
    history = tuple(record.model_copy(update={"clients": clients}) for record in run.history)
    assert "<b>5 pictures</b> could not be read" in lede(replace(run, facts=facts, history=history))
