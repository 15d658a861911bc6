"""docs/secure.md's table, held against every message of real runs and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client_app.main import app as honest_app
from client_app.node import Node
from regl_app.core.types import Scalar
from regl_app.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("short_calibration")

Federate = Callable[..., RunFolder]

CLIENTS = 2
ALWAYS = {"partition-id", "round", "real-images"}
QUALITY = {
    "quality-images",
    "quality-reading",
    "quality-fidelity",
    "quality-diversity",
    "quality-near-copies",
}
DIAGNOSTICS = {"real-counts", "synthetic-counts"}
# Digests of what all machines of a run have: they tell nothing of a client.
ALIKE = {"alike.rows", "alike.generator.path"}
PRIVATE = {"share_diagnostics": False}
FACTS = {"facts.loss", "facts.local_accuracy"}


@dataclass
class Wire:
    """All that went over it: (kind, round of the request, partition, request, reply)."""

    seen: list[tuple[str, int, int, RecordDict, RecordDict]] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)

    def fields(self, kind: str, *, of_reply: bool = True) -> set[str]:
        """Return the names of our fields in all messages of a kind, durations left out."""
        return {
            key
            for name, _, _, request, reply in self.seen
            for key in (reply if of_reply else request).config_records["regl"]
            if name == kind and not key.startswith("seconds.")
        }

    def rounds(self, key: str) -> set[int]:
        """Return the rounds whose train replies had a field."""
        return {
            number
            for kind, number, _, _, reply in self.seen
            if kind == "train" and key in reply.config_records["regl"]
        }


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def tapped(wire: Wire) -> ClientApp:
    """Return the project's ClientApp with a tap on the wire."""
    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        reply = honest_app(message, context)
        number = int(message.content.config_records["regl"]["round"])
        partition = int(context.node_config["partition-id"])
        kind = message.metadata.message_type
        wire.seen.append((kind, number, partition, message.content, reply.content))
        if kind == "query":
            wire.pictures += [
                image.numpy().tobytes() for image in Node.of(context).data.train.images
            ]
        return reply

    app.query()(serve)
    app.train()(serve)
    app.train("adapter")(serve)
    app.evaluate()(serve)
    return app


@pytest.fixture
def run(federate: Federate, tapped: ClientApp, quick_generator: dict[str, Scalar]) -> Federate:
    """Return what runs three rounds of two clients with a generator."""

    def start(**changes: object) -> RunFolder:
        defaults: dict[str, object] = {
            "method": "regl-dpd",
            "rounds": 3,
            "partition__beta": 0.3,
            "data__image_size": 24,  # pictures long enough to be told from chance
            **quick_generator,
            "generator__steps": 1,
            "lora__steps": 1,
            "lora__rank": 1,
            "lora__batch_size": 2,
            "supplement__cap": 2,
            "pool__per_class": 3,
            "probe__per_class": 1,
            "dpo__steps": 1,
            "dpo__batch_size": 2,
            "teaching__steps": 3,
            "tensorboard": True,
            "report": True,
        }
        return federate(tapped, clients=CLIENTS, **(defaults | changes))

    return start


def _left(folder: RunFolder) -> set[str]:
    """Return which of what the options are about is in a run's folder."""
    history, facts = folder.read_history(), folder.read_facts()
    assert facts is not None
    return {
        name
        for name, there in {
            "adapters": any(folder.adapters.iterdir()),
            "samples": any(folder.samples.iterdir()),
            "histogram": facts.train_counts is not None
            or any(record.real_counts or record.synthetic_counts for record in history),
            "quality": any(record.quality for record in history),
            "discrepancy": any(record.discrepancy for record in history),
            "quotas": any(record.quotas for record in history),
        }.items()
        if there
    }


METRICS = {
    "query": set(),
    "train.adapter": set(),
    "train": {"num-examples", "loss"},
    "evaluate": {"num-examples", "accuracy", "macro-f1", "loss"},
}


def _assert_nothing_else(wire: Wire, *, method: bool = False) -> None:
    """Assert what holds under every option: no picture and no file ever leaves a client.

    ``method``: whether the run's method sends tensors of its own.
    """
    assert len(wire.pictures) > 30
    trained = {"arrays", "method"} if method else {"arrays"}
    tensors = {"train": trained, "train.adapter": {"adapter"}}
    for kind, _, _, _, reply in wire.seen:
        assert set(reply.array_records) == tensors.get(kind, set())
        told = {key for record in reply.metric_records.values() for key in record}
        assert told == METRICS[kind]
        for record in reply.config_records.values():
            assert not any(isinstance(value, bytes) for value in record.values())
        values = [
            array.data for arrays in reply.array_records.values() for array in arrays.values()
        ]
        assert not any(picture in data for picture in wire.pictures for data in values)
    models = [len(reply.array_records) for kind, *_, reply in wire.seen if kind == "train"]
    assert models == [len(trained)] * 3 * CLIENTS  # the model is sent, whatever else is hidden


def test_by_default_the_server_learns_histogram_discrepancy_and_plan(
    run: Federate, wire: Wire
) -> None:
    folder = run()
    assert wire.fields("query") == ALIKE | {"partition-id", "num-partitions", "real-counts"}
    train = wire.fields("train")
    assert {key for key in train if not key.startswith("facts.")} == (
        ALWAYS | DIAGNOSTICS | QUALITY | {"discrepancy", "held"}
    )
    assert train > FACTS | {"facts.adapter_loss", "facts.generated"}
    assert wire.fields("evaluate") == {"partition-id", "round"}
    assert _left(folder) == {
        *("adapters", "samples", "histogram", "quality", "discrepancy", "quotas")
    }
    _assert_nothing_else(wire)


def test_of_held_out_images_the_server_learns_three_numbers(run: Federate, wire: Wire) -> None:
    run(method="fedavg", validation__fraction=0.3)
    told = {"validation-images", "validation-accuracy", "validation-loss"}
    assert wire.fields("evaluate") == {"partition-id", "round"} | told
    assert not {key for key in wire.fields("train") if "validation" in key}
    _assert_nothing_else(wire)


def test_without_diagnostics_no_histogram_but_what_it_can_be_guessed_from(
    run: Federate, wire: Wire
) -> None:
    folder = run(**PRIVATE)
    assert wire.fields("query") == ALIKE | {"partition-id", "num-partitions"}
    assert {key for key in wire.fields("train") if not key.startswith("facts.")} == (
        ALWAYS | {"discrepancy", "held"}
    )
    assert _left(folder) == {"discrepancy", "quotas"}
    _assert_nothing_else(wire)


def test_a_vector_that_stays_at_the_client_takes_plan_and_facts_with_it(
    run: Federate, wire: Wire
) -> None:
    folder = run(**PRIVATE, privacy__vector="client")
    assert wire.fields("train") == ALWAYS | FACTS
    assert _left(folder) == set()
    _assert_nothing_else(wire)


def test_noise_is_on_every_vector_that_is_sent(run: Federate, wire: Wire) -> None:
    folder = run(**PRIVATE, privacy__noise=1.0)
    assert wire.fields("train") == ALWAYS | FACTS | {"discrepancy"}
    assert wire.rounds("discrepancy") == {2}
    assert _left(folder) == {"discrepancy"}
    _assert_nothing_else(wire)


@pytest.mark.parametrize("policy", ["balance", "equal"])
def test_other_policies_send_no_vector(run: Federate, wire: Wire, policy: str) -> None:
    run(**PRIVATE, supplement__policy=policy, supplement__selection="none")
    assert not wire.fields("train") & {"discrepancy", "held", "real-counts"}
    _assert_nothing_else(wire)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"supplement__transport": "images"}, {"payload-labels", "payload-pixels"}),
        ({}, {"payload-labels", "payload-pool", "payload-places"}),
        (
            {"supplement__adapter": "dpo", "pool__per_class": 12, "supplement__cap": 10},
            {"payload-labels", "payload-pool", "payload-places"},
        ),
    ],
)
def test_a_server_that_generates_measures_by_itself_and_sends_images(
    run: Federate, wire: Wire, changes: dict[str, object], fields: set[str]
) -> None:
    keys = {"method": "feddpd", "supplement__site": "download", "supplement__adapter": "frozen"}
    folder = run(**(PRIVATE | keys | changes))
    told = {key for key in wire.fields("train") if not key.startswith("facts.")}
    assert told <= ALWAYS | {"adapter"}
    assert wire.fields("train", of_reply=False) >= fields
    assert _left(folder) == {"discrepancy"}
    _assert_nothing_else(wire)
    first = [request for kind, number, _, request, _ in wire.seen if (kind, number) == ("train", 1)]
    assert not any("payload-labels" in request.config_records["regl"] for request in first)


def test_the_experts_opinion_travels_with_the_images_it_is_of(run: Federate, wire: Wire) -> None:
    keys = {"method": "feddpd", "supplement__site": "download", "supplement__adapter": "frozen"}
    run(**keys, labels__by="experts")
    sent = [
        request.config_records["regl"]
        for kind, number, _, request, _ in wire.seen
        if kind == "train" and number > 1
    ]
    told = [each for each in sent if "payload-labels" in each]
    assert told
    for each in told:
        opinion, labels = each["payload-opinion"], each["payload-labels"]
        assert isinstance(opinion, bytes) and isinstance(labels, list)
        assert len(opinion) == 10 * len(labels)
    first = [r for kind, number, _, r, _ in wire.seen if (kind, number) == ("train", 1)]
    assert not any("payload-opinion" in request.config_records["regl"] for request in first)


def test_teaching_needs_no_message_that_is_not_sent_anyway(run: Federate, wire: Wire) -> None:
    run(method="regl", report=False)
    plain = wire.fields("train"), wire.fields("train", of_reply=False)
    keys = {"labels__by": "global", "teaching__head": "experts", "teaching__distill": "experts"}
    folder = run(method="regl", report=False, **keys)
    assert (wire.fields("train"), wire.fields("train", of_reply=False)) == plain
    assert all("teach" in record.seconds.server for record in folder.read_history()[1:])


def test_experts_can_be_known_without_a_label_count(
    run: Federate, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = run(**PRIVATE, method="regl", teaching__head="experts", report=False)
    assert {key for key in wire.fields("train") if not key.startswith("facts.")} == ALWAYS
    assert wire.fields("query") == ALIKE | {"partition-id", "num-partitions"}
    assert "(no label count leaves the clients: guessed from their last layers)" in caplog.text
    assert _left(folder) == set()
    _assert_nothing_else(wire)


def test_noisy_counts_leave_a_client_once_and_say_what_they_cost(
    run: Federate, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    keys = {"teaching__head": "experts", "teaching__say": "noisy"}
    folder = run(**PRIVATE, **keys, method="regl", report=False)
    told = {key for key in wire.fields("train") if not key.startswith("facts.")}
    assert told == ALWAYS | {"noisy-counts"}
    sent = {
        (partition, tuple(reply.config_records["regl"]["noisy-counts"]))
        for kind, _, partition, _, reply in wire.seen
        if kind == "train"
    }
    assert len(sent) == CLIENTS  # a client says the same in every round
    assert not any(float(value).is_integer() for _, row in sent for value in row)
    assert _left(folder) == set()
    assert "(1.01, 1e-05)-differentially private for one image" in caplog.text
    costs = {c["histogram_epsilon"] for r in folder.read_history()[1:] for c in r.clients.values()}
    assert [round(float(cost or 0), 2) for cost in costs] == [1.01]


def test_a_server_that_trains_the_models_too_sends_and_gets_nothing_but_models(
    run: Federate, wire: Wire
) -> None:
    folder = run(**PRIVATE, method="feddpd", supplement__adapter="frozen")
    assert wire.fields("train") == ALWAYS | FACTS
    assert not {key for key in wire.fields("train", of_reply=False) if key.startswith("payload")}
    assert _left(folder) == {"discrepancy", "quotas"}
    _assert_nothing_else(wire)


def test_a_method_may_send_tensors_of_its_own_and_nothing_more(run: Federate, wire: Wire) -> None:
    run(**PRIVATE, method="fedavg", objective="scaffold", report=False)
    assert wire.fields("train") <= ALWAYS | FACTS | {"facts.received", "facts.by_reference"}
    _assert_nothing_else(wire, method=True)


def test_a_head_is_calibrated_by_statistics_that_tell_label_counts(
    run: Federate, wire: Wire
) -> None:
    run(method="ccvr", report=False)
    assert wire.fields("train") <= ALWAYS | DIAGNOSTICS | FACTS
    _assert_nothing_else(wire, method=True)
    counts = {
        tuple(reply.array_records["method"]["counts"].numpy().tolist())
        == tuple(reply.config_records["regl"]["real-counts"])  # type: ignore[arg-type]
        for kind, *_, reply in wire.seen
        if kind == "train"
    }
    assert counts == {True}
    asked = [request for kind, _, _, request, _ in wire.seen if kind == "train"]
    assert not any("method" in request.array_records for request in asked)


def test_a_part_of_the_model_may_stay_at_the_client(run: Federate, wire: Wire) -> None:
    run(**PRIVATE, method="fedavg", objective="fedrep", report=False)
    _assert_nothing_else(wire)
    sent = {
        name
        for kind, *_, reply in wire.seen
        if kind == "train"
        for name in reply.array_records["arrays"]
    }
    assert sent and not any(name.startswith("head.") for name in sent)


def test_an_adapter_leaves_a_client_where_one_is_for_all_and_nothing_else(
    run: Federate, wire: Wire
) -> None:
    folder = run(**PRIVATE, method="regl-shared", lora__min_images=1, lora__rounds=2)
    assert wire.fields("train.adapter") == {
        *("partition-id", "adapter-round", "images"),
        *("facts.adapter_steps", "facts.adapter_loss"),
    }
    assert wire.fields("train.adapter", of_reply=False) == ALIKE | {
        *("version", "code-hash", "config-digest", "num-partitions", "round", "adapter-round"),
    }
    for kind, _, _, _, reply in wire.seen:
        if kind == "train.adapter":
            assert all(".lora_B." in name for name in reply.array_records["adapter"])
    assert {key for key in wire.fields("train") if not key.startswith("facts.")} == (
        ALWAYS | {"adapter"}
    )
    carried = [
        number
        for kind, number, _, request, _ in wire.seen
        if kind == "train" and "adapter" in request.array_records
    ]
    assert carried == [1] * CLIENTS  # later rounds name it by its digest
    assert _left(folder) == set()
    _assert_nothing_else(wire)


def test_a_hidden_vector_takes_how_tuning_went_with_it(run: Federate, wire: Wire) -> None:
    run(**PRIVATE, privacy__vector="client", supplement__adapter="shared", lora__min_images=1)
    told = {key for key in wire.fields("train.adapter") if not key.startswith("seconds.")}
    assert told == {"partition-id", "adapter-round", "images"}


def test_a_client_gets_nothing_about_another(run: Federate, wire: Wire) -> None:
    run()
    requests = wire.fields("train", of_reply=False) | wire.fields("evaluate", of_reply=False)
    assert requests == ALIKE | {
        "version", "code-hash", "config-digest", "num-partitions",
        "round", "run", "run-dir", "quotas",
    }  # fmt: skip
    for kind, number, _, request, _ in wire.seen:
        if kind == "train":
            models = {key: array.data for key, array in request.array_records["arrays"].items()}
            first = next(
                other for name, same, _, other, _ in wire.seen if (name, same) == (kind, number)
            )
            assert models == {k: a.data for k, a in first.array_records["arrays"].items()}
