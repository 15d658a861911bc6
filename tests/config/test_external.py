"""Methods of other packages: found by entry points, never taken for a built-in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.metadata import EntryPoint

import pytest

from regl_app.config import RunConfig, external
from regl_app.core.errors import ConfigError
from regl_app.learning.methods import make_method
from regl_app.learning.methods.moon import Moon
from regl_app.runs.records import GlobalMetrics, Personalized, RoundRecord
from regl_app.runs.round_line import scores

Install = Callable[..., None]
HERS = "regl_app.learning.methods.moon:Moon"  # stands in for another package's class


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that has other packages offer ``(name, dotted)`` pairs."""

    def offer(*pairs: tuple[str, str]) -> None:
        def entry_points(*, group: str) -> list[EntryPoint]:
            return [
                EntryPoint(name, dotted, group) for name, dotted in pairs if group == "regl.methods"
            ]

        monkeypatch.setattr(metadata, "entry_points", entry_points)
        external.offered.cache_clear()

    external.offered.cache_clear()
    yield offer
    external.offered.cache_clear()


def test_an_objective_may_be_another_packages(install: Install) -> None:
    install(("hers", HERS))
    config = RunConfig.from_flat({"method": "fedavg", "objective": "hers"})
    assert config.objective == "hers"
    assert RunConfig.from_flat(config.to_flat()) == config
    method = make_method(config)
    assert isinstance(method, Moon)
    assert method.train == config.train


def test_another_packages_loss_knows_no_class_weights(install: Install) -> None:
    install(("hers", HERS))
    with pytest.raises(ConfigError, match=r"class-weights='balanced'.*'hers' is another package's"):
        RunConfig.from_flat(
            {"method": "fedavg", "objective": "hers", "train.class-weights": "balanced"}
        )


def test_an_unknown_objective_is_told_what_is_installed(install: Install) -> None:
    install(("hers", HERS))
    with pytest.raises(
        ConfigError, match=r"objective must be one of .*'fedrep' or 'hers', got 'x'"
    ):
        RunConfig.from_flat({"objective": "x"})
    with pytest.raises(ConfigError, match=r"one of 'fedavg', .*'hers', got 'x'"):
        external.method_choice("x")


def test_whether_a_method_is_another_packages_is_a_fact(install: Install) -> None:
    install(("hers", HERS), ("fedavg", HERS))
    assert external.is_external("hers")
    assert not external.is_external("fedavg")
    assert not external.is_external("fedprox")
    assert not external.is_external("absent")


def test_only_what_is_known_to_keep_parts_is_told_by_its_clients_alone(install: Install) -> None:
    install(("hers", HERS))
    assert external.keeps_parts("fedrep")
    assert not external.keeps_parts("fedavg")
    record = RoundRecord(
        round=1,
        metrics=GlobalMetrics(accuracy=0.5, macro_f1=0.5),
        personalized=Personalized(mean=0.75, per_client={0: 0.75}),
    )
    told = {
        name: scores(record, RunConfig.from_flat({"method": "fedavg", "objective": name}))
        for name in ("fedrep", "fedavg", "hers")
    }
    assert told["hers"] == told["fedavg"] == "global accuracy 50.0%, on clients' own tests 75.0%"
    assert told["fedrep"] == "with own parts, on clients' own tests 75.0%"
    unknown = record.model_copy(update={"personalized": None})
    config = RunConfig.from_flat({"method": "fedavg", "objective": "fedrep"})
    assert scores(unknown, config) == "with own parts, on clients' own tests not measured"


def test_nothing_is_external_where_nothing_is_installed(install: Install) -> None:
    install()
    assert not external.is_external("hers")
    assert RunConfig.from_flat({"objective": "moon"}).objective == "moon"


def test_a_built_in_name_is_refused_rather_than_guessed(install: Install) -> None:
    install(("fedprox", HERS))
    with pytest.raises(ConfigError, match=r"'fedprox' is built in, .*moon:Moon.*rename"):
        RunConfig.from_flat({"method": "fedprox"})
    with pytest.raises(ConfigError, match="built in"):
        external.method_choice("fedprox")
    assert RunConfig.from_flat({"method": "fedavg"}).objective == "fedavg"  # others go on


def test_two_packages_with_one_name_are_refused(install: Install) -> None:
    install(("hers", "a.b:C"), ("hers", HERS))
    with pytest.raises(ConfigError, match=r"several installed packages.*a\.b:C, regl_app"):
        RunConfig.from_flat({"objective": "hers"})


def test_one_package_found_twice_is_one(install: Install) -> None:
    install(("hers", HERS), ("hers", HERS))  # as an editable installation may be
    assert RunConfig.from_flat({"objective": "hers"}).objective == "hers"


def test_the_configuration_does_not_import_what_it_names(install: Install) -> None:
    install(("hers", "no.such.module:Hers"))
    config = RunConfig.from_flat({"objective": "hers"})
    with pytest.raises(
        ConfigError, match=r"'hers' cannot be imported from 'no\.such\.module:Hers'"
    ):
        make_method(config)


@pytest.mark.parametrize("dotted", ["math:tau", "pathlib:Path"])
def test_what_is_no_method_is_refused(install: Install, dotted: str) -> None:
    install(("hers", dotted))
    with pytest.raises(ConfigError, match="must be a subclass of"):
        make_method(RunConfig.from_flat({"objective": "hers"}))


def test_an_unknown_method_is_not_trusted_to_share_its_whole_model(install: Install) -> None:
    install(("hers", HERS))
    with pytest.raises(ConfigError, match="objective='hers' parts of them may stay at the clients"):
        RunConfig.from_flat({"method": "feddpd", "objective": "hers"})
    RunConfig.from_flat({"method": "regl-dpd", "objective": "hers", "train.optimizer": "adam"})


def test_installed_packages_are_looked_through_once(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    install()
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: calls.append(group) or [])
    for _ in range(3):
        RunConfig.from_flat({"method": "fedavg"})
    assert calls == ["regl.methods"]
