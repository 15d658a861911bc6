"""Methods x seeds: intervals, what is run, what is reused, what is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError, RunError
from regl_app.core.types import Scalar
from regl_app.runs.comparison.compare import compare
from regl_app.runs.comparison.outcome import Outcome, finished_runs, read_outcome
from regl_app.runs.comparison.plan import Variants, configurations, digest
from regl_app.runs.comparison.tables import Comparison
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import (
    FederationFacts,
    GlobalMetrics,
    Personalized,
    RoundRecord,
    RunResult,
)
from regl_app.runs.statistics import summarize

REGL: Variants = {"regl": {"method": "regl"}}
CURVES: Mapping[str, list[float]] = {"fedavg": [0.2, 0.5, 0.7], "regl": [0.5, 0.9, 0.95]}


def write_run(config: RunConfig, clients: int, curve: list[float]) -> Path:
    folder = RunFolder.create(config)
    folder.write_facts(FederationFacts(class_names=["0", "1"], num_clients=clients))
    for number, accuracy in enumerate(curve, start=1):
        last = Personalized(mean=accuracy / 2, per_client={0: accuracy / 2})
        folder.append_round(
            RoundRecord(
                round=number,
                metrics=GlobalMetrics(accuracy=accuracy, macro_f1=accuracy),
                personalized=last if number == len(curve) else None,
            )
        )
    folder.write_result(RunResult(status="finished", seconds=12.0))
    return folder.path


class FakeEngine:
    """Writes run folders as a real engine does, and remembers what it was asked for."""

    def __init__(self, fail: str = "") -> None:
        self.asked: list[str] = []
        self.fail = fail

    def __call__(self, config: RunConfig, clients: int) -> Path:
        self.asked.append(config.name)
        if config.name == self.fail:
            raise RunError("no usable reply in round 1")
        curve = [value - config.seed / 100 for value in CURVES[config.method]]
        return write_run(config, clients, curve)


def made(method: str, seed: int, **known: float | None) -> Outcome:
    metrics = GlobalMetrics(accuracy=0.9, macro_f1=0.9)
    history = [RoundRecord(round=number, metrics=metrics) for number in (1, 10)]
    summary = summarize(history, RunResult(status="finished", seconds=1.0))
    return Outcome(method, seed, "", "", replace(summary, **known))  # type: ignore[arg-type]


def run(tmp_path: Path, engine: FakeEngine, seeds: list[int], **base: float) -> Comparison:
    return compare(
        {"rounds": 3, **base},
        {"fedavg": {"method": "fedavg"}, "regl": {"method": "regl"}},
        seeds,
        clients=4,
        out_dir=tmp_path,
        engine=engine,
    )


def test_what_is_compared_is_the_model_that_a_run_keeps(tmp_path: Path) -> None:
    """Of two methods, one is ahead in the kept rounds and behind in the last ones."""
    curves = {"fedavg": [0.5, 0.7, 0.9], "regl": [0.5, 0.8, 0.2]}

    def engine(config: RunConfig, clients: int) -> Path:
        path = write_run(config, clients, curves[config.method])
        best = 2 if config.seed else 1
        keeps = best if config.validation.keep == "best" else 3
        result = RunResult(status="finished", seconds=1.0, best_round=best, model_round=keeps)
        RunFolder.open(path).write_result(result)
        return path

    def compared(folder: str, *seeds: int, keep: str) -> Comparison:
        return compare(
            {"rounds": 3, "validation.fraction": 0.2, "validation.keep": keep},
            {"fedavg": {"method": "fedavg"}, "regl": {"method": "regl"}},
            seeds,
            clients=4,
            out_dir=tmp_path / folder,
            engine=engine,
        )

    best = compared("best", 1, keep="best")
    header, rows = best.table()
    assert [row[header.index("model of round")] for row in rows] == ["best: 2", "best: 2"]
    assert [row[header.index("global accuracy %")] for row in rows] == ["70.0", "80.0"]
    assert best.differences()[1] == [["regl", "10.0"]]
    assert "the model that a run keeps" in best.to_markdown()
    content = json.loads((tmp_path / "best" / "comparison.json").read_text())
    assert [each["model_round"] for each in content["outcomes"]] == [2, 2]

    several = compared("best", 0, 1, keep="best")
    assert several.table()[1][0][1] == "best: 1 to 2"
    assert "of final" not in several.to_markdown()

    last = compared("last", 1, keep="last")
    header, rows = last.table()
    assert [row[header.index("model of round")] for row in rows] == ["last: 3", "last: 3"]
    assert last.differences()[1] == [["regl", "-70.0"]]


def test_a_comparison_without_validation_says_nothing_of_rounds(tmp_path: Path) -> None:
    comparison = run(tmp_path, FakeEngine(), [0, 1])
    assert "model of round" not in comparison.table()[0]
    assert "Differences of final global accuracy" in comparison.to_markdown()


def test_runs_with_and_without_validation_stand_in_one_table(tmp_path: Path) -> None:
    chosen = replace(made("a", 0, model_round=4), keeps="best")
    comparison = Comparison(("a", "b", "c"), (0,), 4, (chosen, made("b", 0)), ())
    header, rows = comparison.table()
    assert [row[header.index("model of round")] for row in rows] == ["best: 4", "last: 10", "-"]


def test_every_method_runs_with_every_seed_and_seeds_come_first(tmp_path: Path) -> None:
    engine = FakeEngine()
    run(tmp_path, engine, [0, 1])
    assert engine.asked == ["fedavg-s0", "regl-s0", "fedavg-s1", "regl-s1"]


def test_the_table_holds_means_and_rounds_to_ninety_percent(tmp_path: Path) -> None:
    comparison = run(tmp_path, FakeEngine(), [0, 2])
    header, rows = comparison.table()
    by_method = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert by_method["fedavg"]["global accuracy %"].startswith("69.0 ± ")
    assert by_method["fedavg"]["rounds to 90%"] == "> 3"
    assert by_method["regl"]["global model at clients %"].startswith("47.0 ± ")
    # Seed 0 reaches 0.90 in round 2, seed 2 (0.88, 0.93) in round 3.
    assert by_method["regl"]["rounds to 90%"].startswith("2.5 ± ")


def test_a_target_reached_by_some_runs_only_says_by_how_many() -> None:
    def outcome(seed: int, reached: int | None) -> Outcome:
        return made("regl", seed, rounds_to_target=reached)

    comparison = Comparison(("regl",), (0, 1), 4, (outcome(0, 3), outcome(1, None)), ())
    assert "3.0 (reached by 1/2)" in comparison.table()[1][0]


def test_what_some_runs_measured_is_a_column_and_the_long_tail_is_judged_by_itself() -> None:
    def outcome(method: str, seed: int, tail: float, js_after: float | None) -> Outcome:
        js = (None, None) if js_after is None else (0.8, js_after)
        return made(method, seed, tail_accuracy=tail, js_before=js[0], js_after=js[1])

    runs = [outcome("fedavg", seed, 0.5, None) for seed in (0, 1)]
    runs += [outcome("regl", seed, 0.75, 0.25) for seed in (0, 1)]
    comparison = Comparison(("fedavg", "regl"), (0, 1), 4, tuple(runs), ())
    header, rows = comparison.table()
    assert "precision %" not in header
    assert "own models at clients %" not in header
    assert [row[header.index("JS distance")] for row in rows] == ["-", "0.80 → 0.25"]
    assert rows[1][header.index("long-tail accuracy %")] == "75.0 ± 0.0"
    assert comparison.differences("tail_accuracy")[1] == [["regl", "25.0 ± 0.0"]]
    (balanced,) = comparison.differences()[1]
    text = comparison.to_markdown()
    assert "| regl | 25.0 ± 0.0 |" in text
    assert f"| {' | '.join(balanced)} |" in text.partition("on the balanced test set")[2]
    assert "Differences of final long-tail accuracy" in comparison.to_markdown()


def test_all_rounds_are_compared_beside_the_last_one(tmp_path: Path) -> None:
    """A run that swings down in its last round was ahead all the same."""
    curves = {"fedavg": [0.5, 0.5, 0.5], "regl": [0.7, 0.8, 0.3]}

    def engine(config: RunConfig, clients: int) -> Path:
        return write_run(config, clients, curves[config.method])

    comparison = run(tmp_path, engine, [0, 1])  # type: ignore[arg-type]
    header, rows = comparison.table()
    assert [row[header.index("mean of all rounds %")] for row in rows] == [
        "50.0 ± 0.0",
        "60.0 ± 0.0",
    ]
    assert comparison.differences()[1] == [["regl", "-20.0 ± 0.0"]]
    after = comparison.to_markdown().partition("as the mean of all rounds")[2]
    assert "| regl | 10.0 ± 0.0 |" in after


def test_runs_of_before_without_the_mean_of_all_rounds_have_no_column_for_it() -> None:
    runs = (made("a", 0, mean_accuracy=None), made("b", 0, mean_accuracy=None))
    comparison = Comparison(("a", "b"), (0,), 4, runs, ())
    assert "mean of all rounds %" not in comparison.table()[0]
    assert "as the mean of all rounds" not in comparison.to_markdown()


def test_variants_of_one_method_are_rows_of_their_own(tmp_path: Path) -> None:
    variants: Variants = {
        "regl": {"method": "regl"},
        "regl+lora.rank=4": {"method": "regl", "lora.rank": 4},
    }
    engine = FakeEngine()
    comparison = compare({}, variants, [0], clients=4, out_dir=tmp_path, engine=engine)
    assert engine.asked == ["regl-s0", "regl+lora.rank=4-s0"]
    assert [row[0] for row in comparison.table()[1]] == list(variants)
    again = FakeEngine()
    renamed = {"small" if name != "regl" else name: keys for name, keys in variants.items()}
    comparison = compare({}, renamed, [0], clients=4, out_dir=tmp_path, engine=again)
    assert again.asked == []
    assert [outcome.method for outcome in comparison.outcomes] == ["regl", "small"]


def test_a_long_tail_in_some_rows_only_is_not_subtracted_from_the_others() -> None:
    def outcome(method: str, tail: float | None) -> Outcome:
        return made(method, 0, tail_accuracy=tail)

    runs = (outcome("plain", None), outcome("tailed", 0.5), outcome("other", 0.75))
    comparison = Comparison(("plain", "tailed", "other"), (0,), 4, runs, ())
    assert comparison.differences("tail_accuracy")[1] == [
        ["tailed", "-", ""],
        ["other", "-", "25.0"],
    ]
    assert comparison.to_markdown()


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    header, rows = run(tmp_path, FakeEngine(), [0, 1, 2]).differences()
    assert header == ["difference in points", "- fedavg"]
    # The curves of both methods fall alike with the seed: the paired interval is exactly 0 wide.
    assert rows == [["regl", "25.0 ± 0.0"]]


def test_finished_runs_are_not_run_again(tmp_path: Path) -> None:
    first = run(tmp_path, FakeEngine(), [0])
    again = FakeEngine()
    second = run(tmp_path, again, [0, 1])
    assert again.asked == ["fedavg-s1", "regl-s1"]
    assert second.outcomes[:2] == first.outcomes


def test_another_configuration_is_run_beside_the_old_one(tmp_path: Path) -> None:
    run(tmp_path, FakeEngine(), [0])
    again = FakeEngine()
    run(tmp_path, again, [0], **{"partition.beta": 0.5})
    assert again.asked == ["fedavg-s0", "regl-s0"]
    assert len(finished_runs(tmp_path)) == 4


def test_an_interrupted_run_is_run_again(tmp_path: Path) -> None:
    comparison = run(tmp_path, FakeEngine(), [0])
    (Path(comparison.outcomes[0].folder) / "result.json").unlink()
    again = FakeEngine()
    run(tmp_path, again, [0])
    assert again.asked == ["fedavg-s0"]


def test_a_failed_run_is_told_and_does_not_stop_the_others(tmp_path: Path) -> None:
    comparison = run(tmp_path, FakeEngine(fail="fedavg-s0"), [0])
    assert comparison.failures == ("fedavg-s0: no usable reply in round 1",)
    assert [outcome.method for outcome in comparison.outcomes] == ["regl"]
    assert "Failed: fedavg-s0" in (tmp_path / "comparison.md").read_text()
    assert comparison.table()[1][0][:2] == ["fedavg", "-"]


def test_the_files_hold_tables_and_all_outcomes(tmp_path: Path) -> None:
    run(tmp_path, FakeEngine(), [0, 1])
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [outcome["seed"] for outcome in content["outcomes"]] == [0, 0, 1, 1]
    assert content["clients"] == 4
    markdown = (tmp_path / "comparison.md").read_text()
    assert "| regl | 94.5 ± " in markdown
    assert "2 seeds" in markdown


def test_what_has_no_whole_global_model_is_told_by_its_clients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="regl")
    found = compare(
        {"rounds": 3},
        {"fedrep": {"method": "fedrep"}},
        [0],
        clients=4,
        out_dir=tmp_path,
        engine=lambda config, clients: write_run(config, clients, [0.5, 0.6, 0.7]),
    )
    assert found.outcomes[0].summary.accuracy is None and not found.outcomes[0].whole
    assert "fedrep-s0: accuracy at the clients 35.0% " in caplog.text
    assert "70.0%" not in caplog.text
    (content,) = json.loads((tmp_path / "comparison.json").read_text())["outcomes"]
    assert (content["accuracy"], content["best_accuracy"], content["macro_f1"]) == (None,) * 3


def test_an_invalid_configuration_is_refused_before_anything_runs(tmp_path: Path) -> None:
    engine = FakeEngine()
    with pytest.raises(ConfigError, match=r"partition\.beta"):
        run(tmp_path, engine, [0], **{"partition.beta": -1.0})
    assert engine.asked == []


def test_a_seed_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"each seed once, got \[1, 1\]"):
        list(configurations({}, REGL, [1, 1], vary_data=False))
    with pytest.raises(ConfigError, match="at least one method"):
        list(configurations({}, {}, [1], vary_data=False))


@pytest.mark.parametrize("key", ["seed", "name", "out-dir", "resume"])
def test_what_the_comparison_sets_is_refused_in_base_and_rows(key: str) -> None:
    row: Variants = {"mine": {"method": "regl", key: 5}}
    with pytest.raises(ConfigError, match=f"^{key}=5 is set by the comparison"):
        list(configurations({key: 5}, REGL, [1], vary_data=False))
    with pytest.raises(ConfigError, match=f"^row 'mine': {key}=5 is set by the comparison"):
        list(configurations({}, REGL | row, [1], vary_data=False))


def test_a_split_may_be_named_where_it_does_not_follow_the_seed() -> None:
    row: Variants = {"mine": {"method": "regl", "data.seed": 5}}
    (config,) = configurations({"data.seed": 4}, row, [1], vary_data=False)
    assert config.data.seed == 5
    for base, rows in (({"data.seed": 4}, REGL), ({}, row)):
        with pytest.raises(ConfigError, match=r"data\.seed=.*with --vary-data it follows the seed"):
            list(configurations(base, rows, [1], vary_data=True))


def test_the_split_follows_the_seed_only_on_request() -> None:
    fixed = list(configurations({}, REGL, [1, 2], vary_data=False))
    assert [config.data.seed for config in fixed] == [0, 0]
    varied = list(configurations({}, REGL, [1, 2], vary_data=True))
    assert [config.data.seed for config in varied] == [1, 2]


def test_a_new_generator_is_run_again_by_the_methods_that_use_it(tmp_path: Path) -> None:
    comparison = run(tmp_path, FakeEngine(), [0])
    for outcome in comparison.outcomes:
        path = Path(outcome.folder) / "config.json"
        content = json.loads(path.read_text())
        assert ("generator" in content["environment"]) == (outcome.method != "fedavg")
        content["environment"]["generator"] = "of the release before"
        path.write_text(json.dumps(content))
    again = FakeEngine()
    run(tmp_path, again, [0])
    assert again.asked == ["regl-s0"]


@pytest.mark.parametrize(
    ("method", "change", "same"),
    [
        ("regl", {"out-dir": "x", "name": "y", "report": False}, True),
        ("regl", {"lora.steps": 7}, False),
        ("regl", {"generator.guide": "frozen"}, False),
        ("regl-free", {"lora.steps": 7, "generator.guide": "frozen"}, True),
        ("regl-free", {"generator.guidance": 7}, False),
        ("fedavg", {"lora.steps": 7, "generator.guidance": 7, "supplement.cap": 7}, True),
        ("fedavg", {"train.steps": 7}, False),
    ],
)
def test_the_digest_sees_what_the_method_uses(
    method: str, change: dict[str, Scalar], same: bool
) -> None:
    config = RunConfig.from_flat({"method": method})
    assert (digest(config.updated(change), 4, "w") == digest(config, 4, "w")) == same
    assert digest(config, 5, "w") != digest(config, 4, "w")
    assert (digest(config, 4, "other") == digest(config, 4, "w")) == (method == "fedavg")


@pytest.mark.parametrize("keys", [{"teaching.distill": "experts"}, {"teaching.first-steps": 9}])
def test_who_is_only_taught_uses_a_generator_too(keys: dict[str, Scalar]) -> None:
    config = RunConfig.from_flat({"method": "fedavg", **keys})
    assert digest(config, 4, "other") != digest(config, 4, "w")
    assert digest(config.updated({"pool.per-class": 7}), 4, "w") != digest(config, 4, "w")


def test_a_failed_runs_outcome_is_its_error(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({}), tmp_path)
    with pytest.raises(RunError, match="has not ended"):
        read_outcome(folder.path)
    folder.write_result(RunResult(status="failed", seconds=1.0, error="boom"))
    with pytest.raises(RunError, match="boom"):
        read_outcome(folder.path)
