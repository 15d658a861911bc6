"""A bad reply is refused by name and the round goes on; without any usable one the run fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from client_app.main import app as honest_app
from regl_app.config import RunConfig
from regl_app.core.bounds import MOST_IMAGES
from regl_app.core.errors import RunError
from regl_app.data.export import export_clients
from regl_app.data.federation import Federation
from regl_app.runs.folder import RunFolder

MakeClient = Callable[..., ClientApp]
Federate = Callable[..., RunFolder]


def _first_array(reply: Message) -> tuple[Any, str, np.ndarray]:
    record = reply.content.array_records["arrays"]
    key = next(iter(record))
    return record, key, record[key].numpy()


def _nan(reply: Message) -> None:
    record, key, array = _first_array(reply)
    record[key] = Array(np.full_like(array, np.nan))


def _wrong_shape(reply: Message) -> None:
    record, key, array = _first_array(reply)
    record[key] = Array(np.zeros((*array.shape, 2), array.dtype))


def _wrong_classes(reply: Message) -> None:
    reply.content.config_records["regl"]["real-counts"] = [1, 2, 3]


def _nothing_of_ours(reply: Message) -> None:
    del reply.content["regl"]


def _somebody_else(reply: Message) -> None:
    reply.content.config_records["regl"]["partition-id"] = 2


def _extra_metric(reply: Message) -> None:
    reply.content.metric_records["metrics"]["more"] = 1.0


def _empty_list(reply: Message) -> None:
    reply.content.config_records["regl"]["held"] = []


def _zip_archive(reply: Message) -> None:
    """Numpy's own reader takes this for an archive, which has no shape: it ended the run."""
    record, key, array = _first_array(reply)
    record[key] = Array(str(array.dtype), array.shape, "numpy.ndarray", b"PK\3\4")


def _oversized(reply: Message) -> None:
    reply.content.config_records["regl"]["note"] = "x" * 3_000_000


def _oversized_array(reply: Message) -> None:
    record, key, array = _first_array(reply)
    data = record[key].data + bytes(1000)
    record[key] = Array(str(array.dtype), array.shape, "numpy.ndarray", data)


def _field(key: str, value: Any) -> Callable[[Message], None]:
    def put(reply: Message) -> None:
        reply.content.config_records["regl"][key] = value

    return put


FAULTS = [
    (_field("facts.local_accuracy", "abc"), "facts.local_accuracy must be a number from 0 to 1"),
    (_field("seconds.train", 1e308), "seconds.train must be a number from 0 to 1e+09, got 1e+308"),
    (_zip_archive, "cannot be decoded"),
    (_oversized, "a reply must have at most"),
    (_oversized_array, "must have at most"),
    (_empty_list, "empty text or list"),
    (_nan, "must be finite"),
    (_wrong_shape, "must be float32"),
    (_wrong_classes, "real-counts must be 10 whole numbers"),
    (_nothing_of_ours, "a ConfigRecord 'regl' is missing"),
    (_somebody_else, "it now claims to be client 2"),
    (_extra_metric, "metrics must be"),
]


def _from_client_one(fault: Callable[[Message], None]) -> Callable[[Message, int], Message]:
    def misbehave(reply: Message, partition_id: int) -> Message:
        if partition_id == 1:
            fault(reply)
        return reply

    return misbehave


@pytest.mark.parametrize(("fault", "why"), FAULTS)
def test_one_bad_reply_is_refused_and_the_round_goes_on(
    federate: Federate, make_client: MakeClient, fault: Callable[[Message], None], why: str
) -> None:
    history = federate(make_client(_from_client_one(fault), "train")).read_history()
    assert [record.round for record in history] == [0, 1, 2]
    for record in history[1:]:
        assert len(record.failures) == 1
        assert record.failures[0].startswith("train: client 1: refused: ")
        assert why in record.failures[0]
        assert set(record.clients) == {0, 2, 3}
        assert record.real_counts is not None
        assert record.real_counts[1] is None


def test_a_client_that_raises_is_a_named_failure(
    federate: Federate, make_client: MakeClient
) -> None:
    def misbehave(reply: Message, partition_id: int) -> Message:
        if partition_id == 3:
            raise ValueError("out of memory")
        return reply

    history = federate(make_client(misbehave, "train")).read_history()
    assert history[-1].failures == ["train: client 3: failed: out of memory"]


def test_a_clients_last_words_are_cut_and_made_one_line(
    federate: Federate, make_client: MakeClient
) -> None:
    def misbehave(reply: Message, partition_id: int) -> Message:
        if partition_id == 3:
            raise ValueError("\x1b[2J" + "x" * 10**6)
        return reply

    (failure,) = federate(make_client(misbehave, "train")).read_history()[-1].failures
    assert len(failure) < 600 and failure.isprintable()


def test_without_a_usable_reply_the_run_fails_and_says_why(
    federate: Federate, make_client: MakeClient, tmp_path: Path
) -> None:
    def misbehave(reply: Message, _partition_id: int) -> Message:
        _nan(reply)
        return reply

    with pytest.raises(RunError, match="round 1: 0 of 4 train replies were usable") as caught:
        federate(make_client(misbehave, "train"))
    assert str(caught.value).count("must be finite") == 4
    result = RunFolder.open(next((tmp_path / "runs").iterdir())).read_result()
    assert result is not None
    assert result.status == "failed"
    assert result.error is not None
    assert "0 of 4 train replies" in result.error


def test_too_few_usable_replies_fail_the_run(federate: Federate, make_client: MakeClient) -> None:
    with pytest.raises(RunError, match=r"3 of 4 .* server\.min-replies=4"):
        federate(make_client(_from_client_one(_nan), "train"), server__min_replies=4)


def test_bad_evaluations_cost_only_themselves(federate: Federate, make_client: MakeClient) -> None:
    def misbehave(reply: Message, partition_id: int) -> Message:
        if partition_id == 0:
            reply.content.metric_records["metrics"]["accuracy"] = 7.0
        return reply

    last = federate(make_client(misbehave, "evaluate")).read_history()[-1]
    assert last.failures == [
        "evaluate: client 0: refused: accuracy must be between 0 and 1, got 7.0"
    ]
    assert last.personalized is not None
    assert 0 not in last.personalized.per_client


def test_confusion_that_overflows_costs_one_client_its_say_and_not_the_run(
    federate: Federate, make_client: MakeClient, tmp_path: Path
) -> None:
    small = {"data.max-train": 120, "data.image-size": 16}
    export_clients(Federation.load(RunConfig.from_flat(small), 3), tmp_path / "sites")

    def overflow(reply: Message) -> None:
        record = reply.content.config_records["regl"]
        counts = [0] * 100
        counts[0] = counts[11] = 2**63 - 1
        counts[1] = 2 + int(reply.content.metric_records["metrics"]["num-examples"])
        record["confusion"] = counts

    folder = federate(
        make_client(_from_client_one(overflow), "evaluate"),
        sites=sorted((tmp_path / "sites").iterdir()),
        data__source="site",
        data__classes="0,1,2,3,4,5,6,7,8,9",
        data__channels=1,
    )
    for record in folder.read_history():
        (failure,) = record.failures
        assert failure.startswith("evaluate: client 1: refused: confusion must be 100 whole")
        assert record.metrics.confusion is not None


def test_two_nodes_cannot_hold_one_partition(federate: Federate, make_client: MakeClient) -> None:
    def misbehave(reply: Message, partition_id: int) -> Message:
        reply.content["regl"] = ConfigRecord(
            {"partition-id": min(partition_id, 1), "num-partitions": 4}
        )
        return reply

    with pytest.raises(
        RunError, match=r"2 of 4 nodes can take part.*server\.min-nodes=3"
    ) as caught:
        federate(make_client(misbehave, "query"), server__min_nodes=3)
    assert str(caught.value).count("two nodes claim to be client 1") == 2


def test_a_refused_double_does_not_stand_in_for_the_one_it_copies(
    federate: Federate, caplog: pytest.LogCaptureFixture
) -> None:
    """Node 1002 has a copy of node 1000's configuration; that one fails in round 1."""
    app, served = ClientApp(), list[tuple[int, str]]()

    def serve(message: Message, context: Context) -> Message:
        if context.node_id == 1002:
            context.node_config["partition-id"] = 0
        kind = message.metadata.message_type
        served.append((context.node_id, kind))
        if (context.node_id, kind) == (1000, "train") and served.count((1000, "train")) == 1:
            raise ValueError("out of memory")
        return honest_app(message, context)

    app.query()(serve)
    app.train()(serve)
    app.evaluate()(serve)
    first, second = federate(app, 3).read_history()[1:]
    assert set(first.clients) == {1} and set(second.clients) == {0, 1}
    double = "hello: node 1002: refused: two nodes claim to be client 0"
    again = f"{double} (that is node 1000)"
    assert first.failures == [again, "train: client 0: failed: out of memory"]
    assert second.failures == [again]
    assert {kind for node, kind in served if node == 1002} == {"query"}
    assert double in caplog.text


def _counting(*wrong: int) -> Callable[[Message, int], Message]:
    def misbehave(reply: Message, partition_id: int) -> Message:
        if partition_id in wrong:
            reply.content.config_records["regl"]["num-partitions"] = 7
        return reply

    return misbehave


def test_a_node_that_counts_other_clients_than_most_is_left_out(
    federate: Federate, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    folder = federate(make_client(_counting(1), "query"))
    facts = folder.read_facts()
    assert facts is not None and facts.num_clients == 4
    assert facts.train_counts is not None and facts.train_counts[1] is None
    assert "hello: client 1: refused: num-partitions must be 4" in caplog.text


def test_without_a_majority_nobody_knows_how_many_clients_there_are(
    federate: Federate, make_client: MakeClient
) -> None:
    with pytest.raises(RunError, match=r"got 4 from 2 of them, 7 from 2 of them"):
        federate(make_client(_counting(0, 1), "query"))


def test_an_absurd_number_of_images_breaks_no_plan(
    federate: Federate, make_client: MakeClient, second_pipeline: Path
) -> None:
    def boast(reply: Message) -> None:
        reply.content.config_records["regl"]["real-images"] = MOST_IMAGES

    folder = federate(
        make_client(_from_client_one(boast), "train"),
        method="regl-dpd",
        generator__path=str(second_pipeline),
        generator__steps=1,
        supplement__adapter="frozen",
        supplement__cap=2,
        probe__per_class=1,
    )
    assert len(folder.read_history()) == 3


@pytest.mark.parametrize("site", ["download", "server"])
def test_a_model_whose_answers_are_no_numbers_is_refused_by_a_server_that_uses_it(
    federate: Federate, make_client: MakeClient, second_pipeline: Path, site: str
) -> None:
    def blow_up(reply: Message) -> None:
        record = reply.content.array_records["arrays"]
        for key in list(record):
            record[key] = Array(np.full_like(record[key].numpy(), 1e38))

    folder = federate(
        make_client(_from_client_one(blow_up), "train"),
        method="feddpd",
        generator__path=str(second_pipeline),
        generator__steps=1,
        supplement__site=site,
        supplement__adapter="frozen",
        supplement__cap=2,
        pool__per_class=2,
        probe__per_class=1,
    )
    for record in folder.read_history()[1:]:
        assert len(record.failures) == 1
        assert "client 1: refused: its model's answers are not finite" in record.failures[0]
        assert set(record.clients) == {0, 2, 3}
