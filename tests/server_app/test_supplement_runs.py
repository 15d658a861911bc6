"""The methods that generate, end to end on a tiny untrained generator."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.cache import AdapterCache, CachedAdapter
from regl_app.rounds.client_state import ClientState
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import RoundRecord
from regl_app.runs.samples import load_samples, sample_files
from regl_app.supplement.payload import Payload
from regl_app.supplement.schedule import budgets

Federate = Callable[..., RunFolder]


@pytest.fixture
def generate(federate: Federate, quick_generator: dict[str, Scalar]) -> Federate:
    """Return ``federate`` with a generator so small that its images are noise."""

    def run(**changes: object) -> RunFolder:
        small = {
            "clients": 2,
            "workers": 2,
            **quick_generator,
            "generator__steps": 2,
            "lora__steps": 2,
            "lora__batch_size": 4,
            "lora__rank": 2,
            "supplement__cap": 4,
            "probe__per_class": 2,
        }
        return federate(**(small | changes))

    return run


def test_the_default_method_measures_plans_and_supplements(generate: Federate) -> None:
    folder = generate(method="regl-dpd", rounds=3, supplement__ratio=0.1, supplement__decay=0.5)
    history = folder.read_history()[1:]
    for record in history:
        assert not record.failures
        d = np.array(record.discrepancy, dtype=float)
        assert d.shape == (2, 10)
        assert np.abs(d).max() <= 1
        assert record.quotas == record.synthetic_counts
        assert {"adapt", "generate", "train", "probe"} <= set(record.seconds.clients)
    quotas = np.array([record.quotas for record in history])
    real = np.array([record.real_counts for record in history])
    assert quotas.max() <= 4
    # The budget of each round is spent to the last image, and it decays.
    planned = [
        budgets("exponential", ratio=0.1, decay=0.5, rounds=3, num_images=int(n), most=40)
        for n in real[0].sum(axis=1)
    ]
    np.testing.assert_array_equal(quotas.sum(axis=2).T, planned)
    assert not np.array_equal(quotas[1] > 0, quotas[0] > 0)  # by discrepancy, no longer by labels
    # The adapter is tuned in round 1 and reused afterwards.
    steps = [record.clients[0]["adapter_steps"] for record in history]
    assert steps == [2, 0, 0]
    assert [record.clients[0]["adapter_cached"] for record in history] == [False, True, True]


def test_balance_tops_up_the_clients_own_classes(generate: Federate) -> None:
    record = generate(method="regl", rounds=1).read_history()[-1]
    real, synthetic = np.array(record.real_counts), np.array(record.synthetic_counts)
    expected = np.minimum(real.max(axis=1, keepdims=True) - real, 4)
    np.testing.assert_array_equal(synthetic, expected)
    assert record.quotas is None  # planned by the client: nothing about its labels has to leave it


def test_pictures_and_adapters_are_left_for_the_report(generate: Federate) -> None:
    folder = generate(method="regl", rounds=1)
    samples = [load_samples(path) for path in sample_files(folder.path).values()]
    assert [found.partition_id for found in samples] == [0, 1]
    assert {"real", "frozen", "adapted"} <= set(samples[0].sets)
    assert all(len(samples[0].of_class("adapted", label)) == 3 for label in range(10))
    assert sorted(path.name for path in folder.adapters.iterdir()) == ["client-00", "client-01"]


def test_without_diagnostics_nothing_is_left_and_the_plan_still_works(generate: Federate) -> None:
    folder = generate(method="regl-dpd", rounds=2, share_diagnostics=False)
    assert not list(folder.samples.iterdir())
    assert not list(folder.adapters.iterdir())
    last = folder.read_history()[-1]
    assert last.quotas is not None
    assert last.real_counts is None


def test_the_same_seed_gives_the_same_history(generate: Federate, tmp_path: Path) -> None:
    def run(name: str, workers: int) -> list[object]:
        folder = generate(
            method="regl-dpd", workers=workers, cache_dir=str(tmp_path / name), clients=3
        )
        fields = {"metrics", "personalized", "discrepancy", "quotas", "synthetic_counts"}
        return [record.model_dump(include=fields) for record in folder.read_history()]

    assert run("one", 1) == run("two", 3)


@pytest.mark.parametrize(
    ("adapter", "facts"),
    [
        ("frozen", {"candidates", "discrepant", "reward", "reward_of_candidates"}),
        ("dpo", {"adapter_loss", "adapter_pairs", "adapter_reward_margin", "candidates"}),
        ("guidance", {"candidates", "discrepant"}),
    ],
)
def test_models_are_compared_from_the_second_round_on(
    generate: Federate, tmp_path: Path, adapter: str, facts: set[str]
) -> None:
    def run(name: str) -> RunFolder:
        return generate(
            method="regl-dpd",
            rounds=4,
            supplement__adapter=adapter,
            supplement__selection="discrepancy",
            pool__per_class=6,
            dpo__steps=2,
            dpo__rounds=1,
            cache_dir=str(tmp_path / name),
        )

    folder = run("one")
    history = folder.read_history()[1:]
    assert all(record.quotas == record.synthetic_counts for record in history)
    assert "reward" not in history[0].clients[0]
    assert all(facts <= set(record.clients[0]) for record in history[1:])
    for record in history[1:]:
        assert record.clients[0]["reward"] >= record.clients[0]["reward_of_candidates"]
        assert {"select", "adapt", "generate"} <= set(record.seconds.clients)
    if adapter == "dpo":  # tuned in round 2, as dpo.rounds=1 says, and kept afterwards
        steps = [record.clients[0]["adapter_steps"] for record in history]
        assert steps == [0, 2, 0, 0]
        assert [record.clients[0]["adapted"] for record in history] == [False, True, True, True]
    # The clients let go of what they kept, a day from now: see regl_app.rounds.client_state.
    kept = list((tmp_path / "one" / "state").rglob("*.safetensors"))
    assert all(time.time() - path.stat().st_mtime > 28 * 24 * 3600 for path in kept)
    again = run("two").read_history()[1:]
    assert [r.metrics for r in again] == [r.metrics for r in history]


def test_clients_that_sit_out_rounds_are_tuned_when_they_can_be(generate: Federate) -> None:
    history = generate(
        method="regl-dpd",
        clients=3,
        rounds=6,
        server__fraction=0.5,
        supplement__adapter="dpo",
        dpo__rounds=1,
        dpo__steps=2,
        pool__per_class=2,
    ).read_history()[1:]
    for client in range(3):
        trained = [record.clients[client] for record in history if client in record.clients]
        steps = [facts["adapter_steps"] for facts in trained]
        assert steps == [0, 2, *[0] * len(steps)][: len(steps)]
    assert all(record.labels is not None for record in history)  # of all, whoever takes part


def test_a_client_that_lost_its_state_says_so_and_goes_on(
    generate: Federate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(ClientState, "save", lambda self, memory: None)
    folder = generate(
        method="regl-dpd",
        rounds=2,
        supplement__adapter="frozen",
        supplement__selection="discrepancy",
    )
    last = folder.read_history()[-1]
    assert not last.failures
    assert last.quotas == last.synthetic_counts
    assert "nothing of an earlier round is kept here, so round 2 goes as a first one" in caplog.text


def test_a_client_that_keeps_its_vector_plans_as_the_server_would(generate: Federate) -> None:
    keys = {"method": "regl-dpd", "rounds": 4, "supplement__ratio": 0.1}
    keys |= {"supplement__adapter": "frozen", "share_diagnostics": False}
    told = generate(**keys).read_history()
    kept = generate(**keys, privacy__vector="client").read_history()
    # Other images anywhere would make other models.
    assert [r.metrics for r in kept] == [r.metrics for r in told]
    for record in kept[1:]:
        assert record.discrepancy is record.quotas is None
        assert set(record.clients[0]) == {"loss", "local_accuracy"}


def test_a_private_vector_is_noise_and_nothing_else_tells_the_labels(generate: Federate) -> None:
    keys = {"method": "regl-dpd", "rounds": 4, "supplement__adapter": "frozen"}
    keys |= {"share_diagnostics": False, "privacy__noise": 20.0, "supplement__ratio": 0.1}
    one, other = (generate(**keys).read_history()[1:] for _ in range(2))
    assert [record.discrepancy is None for record in one] == [True, False, False, True]
    assert one[1].discrepancy != other[1].discrepancy  # no seed draws it
    for record in one:
        assert not record.failures
        assert record.quotas is record.real_counts is record.synthetic_counts is None
        assert set(record.clients[0]) == {"loss", "local_accuracy"}
    again = [
        generate(**keys, privacy__reproducible=True).read_history()[2].discrepancy for _ in "ab"
    ]
    assert again[0] == again[1]


def test_classes_that_the_generator_does_not_know_are_refused_before_any_work(
    federate: Federate, tmp_path: Path
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            picture = Image.new("L", (8, 8), number)
            picture.save(tmp_path / "photos" / name / f"{number}.png")
    own = {"data__source": "folder", "data__path": str(tmp_path / "photos")}
    with pytest.raises(GeneratorError, match="knows the ten digits only, not 'cat', 'dog'"):
        federate(method="regl", **own)
    assert federate(method="fedavg", rounds=1, **own).read_history()


def at_server(generate: Federate, site: str, **changes: object) -> RunFolder:
    keys = {
        "method": "feddpd",
        "rounds": 3,
        "supplement__site": site,
        "supplement__ratio": 0.1,
        "pool__per_class": 6,
        "dpo__steps": 2,
        "dpo__rounds": 1,
    }
    return generate(**(keys | changes))


@pytest.mark.parametrize("adapter", ["frozen", "dpo", "guidance"])
def test_the_server_tunes_the_uploaded_models_and_clients_do_as_in_fedavg(
    generate: Federate, adapter: str
) -> None:
    folder = at_server(generate, "server", supplement__adapter=adapter, labels__by="hard")
    history = folder.read_history()[1:]
    for record in history:
        assert not record.failures
        assert np.array(record.discrepancy).shape == (2, 10)
        assert record.quotas == record.synthetic_counts
        assert np.array(record.quotas).sum() > 0
        assert set(record.seconds.clients) == {"train", "probe"}
        assert {"score", "adapt", "generate", "select", "tune"} <= set(record.seconds.server)
    if adapter == "dpo":
        assert [r.clients[0]["adapter_steps"] for r in history] == [2, 0, 0]
    plain = generate(method="fedavg", rounds=3).read_history()[1:]
    assert [r.bytes.down for r in history] == [r.bytes.down for r in plain]
    assert history[0].metrics != plain[0].metrics


@pytest.mark.parametrize("transport", ["seeds", "images"])
def test_clients_download_what_the_server_made(
    generate: Federate, transport: str, tmp_path: Path
) -> None:
    history = at_server(
        generate,
        "download",
        supplement__adapter="frozen",
        supplement__transport=transport,
        cache_dir=str(tmp_path),
    ).read_history()[1:]
    # The first round has no models to compare yet.
    assert np.array(history[0].synthetic_counts).sum() == 0
    for before, record in itertools.pairwise(history):
        assert not record.failures
        assert before.discrepancy is not None
        assert np.array(record.synthetic_counts).sum() > 0
        facts = record.clients[0]
        assert facts["received"] == sum(record.synthetic_counts[0])
        assert facts["by_reference"] == (transport == "seeds")
        assert len(record.bytes.clients_down) == 2
        assert record.bytes.clients_down[0] > history[0].bytes.clients_down[0]


@pytest.mark.parametrize("selection", ["discrepancy", "none"])
def test_references_and_pixels_bring_the_same_images_and_references_are_smaller(
    generate: Federate, selection: str
) -> None:
    seeds, images = (
        at_server(
            generate,
            "download",
            supplement__adapter="frozen",
            supplement__selection=selection,
            supplement__transport=transport,
        ).read_history()[1:]
        for transport in ("seeds", "images")
    )
    assert [r.metrics for r in seeds] == [r.metrics for r in images]
    assert seeds[1].bytes.down < images[1].bytes.down


def dear_pixels(images: ImageSet) -> Payload:
    """Stand in for pictures so large that an adapter is the shorter message."""
    return Payload(images.labels.numpy(), pixels=bytes(10**7))


def test_an_adapter_is_sent_once_and_named_afterwards(
    generate: Federate, second_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**changes: object) -> list[RoundRecord]:
        keys = {"dpo__start": "frozen", "supplement__decay": 0.0, "rounds": 4, "lora__rank": 1}
        keys["generator__path"] = str(second_pipeline)  # of which an adapter has some size
        folder = at_server(generate, "download", supplement__adapter="dpo", **keys, **changes)
        return folder.read_history()[1:]

    pixels = run(supplement__transport="images")
    monkeypatch.setattr("regl_app.supplement.payload.Payload.of_images", dear_pixels)
    references = run()
    assert not any(record.failures for record in references)
    assert [r.clients[0]["by_reference"] for r in references[1:]] == [True] * 3
    assert [r.metrics for r in references] == [r.metrics for r in pixels]
    # Tuned once, in round 2: its file is in that round's request, its digest alone later.
    down = [r.bytes.clients_down[0] for r in references]
    assert down[1] - down[2] > 10_000
    assert down[2] - down[0] < 10_000


def test_a_client_that_lost_its_adapter_says_so_and_is_sent_it_again(
    generate: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regl_app.supplement.payload.Payload.of_images", dear_pixels)
    # Clients ask from several threads at once: who is the third must not depend on who is quick.
    find, turns = AdapterCache.received, itertools.count(1)

    def lose(cache: AdapterCache, digest: str) -> CachedAdapter | None:
        turn, held = next(turns), find(cache, digest)
        if turn == 3 and held is not None:  # of two clients, in round 3
            shutil.rmtree(held.path)
            return None
        return held

    monkeypatch.setattr(AdapterCache, "received", lose)
    history = at_server(
        generate, "download", supplement__adapter="dpo", supplement__decay=0.0, rounds=4
    ).read_history()[1:]
    (failure,) = history[2].failures
    assert "no longer in this client's cache" in failure
    assert not history[3].failures
    (lost,) = {0, 1} - set(history[2].clients)
    down = [record.bytes.clients_down[lost] for record in history]
    assert down[3] - down[2] > 10_000  # the file once more


def test_a_client_without_the_generator_is_sent_images(
    generate: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "client_app.handlers.own_pool", lambda node: "" if node.partition_id else "x"
    )
    history = at_server(generate, "download", supplement__adapter="frozen").read_history()
    assert [history[-1].clients[k]["by_reference"] for k in (0, 1)] == [False, False]


def test_all_of_it_works_around_another_strategy(generate: Federate) -> None:
    for site in ("download", "server"):
        history = at_server(
            generate, site, supplement__adapter="frozen", server__strategy="fedadam"
        ).read_history()
        assert not any(record.failures for record in history)


@pytest.mark.parametrize("site", ["client", "download", "server"])
def test_a_budget_that_decays_to_nothing_ends_the_supplement(generate: Federate, site: str) -> None:
    history = at_server(
        generate,
        site,
        supplement__adapter="frozen",
        supplement__ratio=0.05,
        supplement__decay=2.0,
        rounds=4,
    ).read_history()[1:]
    made = [np.array(record.synthetic_counts).sum() for record in history]
    assert not any(record.failures for record in history)
    assert max(made) > 0
    assert made[-1] == 0
