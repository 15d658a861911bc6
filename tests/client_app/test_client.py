"""One client on its own: what it answers, refuses and reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client_app.main import app
from client_app.node import Node
from regl_app.config import RunConfig
from regl_app.core.app_code import own_code_hash
from regl_app.core.errors import ConfigError, DataError, GeneratorError, ProtocolError
from regl_app.core.types import Scalar
from regl_app.flower.messages.content import ARRAYS, OURS, request_record
from regl_app.flower.messages.evaluate import EvaluateReply
from regl_app.flower.messages.handshake import Handshake, config_digest
from regl_app.flower.messages.hello import ClientInfo
from regl_app.flower.messages.train import TrainReply, TrainRequest
from regl_app.flower.messages.weights import weights_to_record
from regl_app.generator.adapters import most_adapter_bytes


@pytest.fixture(autouse=True)
def _identity() -> None:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 0, 1


def _context(partition_id: object = 0, num_partitions: object = 3, **changes: Scalar) -> Context:
    flat: dict[str, Scalar] = {
        "method": "fedavg",
        "train.steps": 2,
        "train.batch-size": 8,
        "model.width": 4,
        "data.max-train": 120,
        "data.max-test": 60,
        "data.image-size": 16,
        "partition.beta": 1.0,
    }
    node = {"partition-id": partition_id, "num-partitions": num_partitions}
    return Context(1, 7, node, RecordDict(), flat | changes)  # type: ignore[arg-type]


def _handshake(context: Context) -> Handshake:
    return Handshake(own_code_hash(), config_digest(RunConfig.from_flat(context.run_config)))


def _send(context: Context, kind: str, ours: ConfigRecord, weights: bool = True) -> RecordDict:
    content = RecordDict({OURS: ours})
    if weights:
        content[ARRAYS] = weights_to_record(Node.of(context).template)
    message = Message(content, 7, kind)
    message.metadata.__dict__["_message_id"] = "1"
    return app(message, context).content


def _train(context: Context, number: int = 1, quotas: np.ndarray | None = None) -> TrainReply:
    request = TrainRequest(number, "", quotas).to_record(_handshake(context))
    content = _send(context, MessageType.TRAIN, request)
    node = Node.of(context)
    return TrainReply.read(
        content,
        server_round=number,
        template=node.template,
        num_classes=node.num_classes,
    )


def test_hello_tells_the_partition_and_the_labels_if_shared() -> None:
    for shared in (True, False):
        context = _context(2, **{"share-diagnostics": shared})
        ours = request_record(0, _handshake(context))
        hello = ClientInfo.read(_send(context, MessageType.QUERY, ours, weights=False), 10)
        assert (hello.partition_id, hello.num_partitions) == (2, 3)
        assert (hello.real_counts is not None) == shared


def test_an_image_encoder_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    context = _context(
        method="regl", **{"generator.image-encoder": str(tmp_path), "lora.image-tokens": 2}
    )
    ours = request_record(0, _handshake(context))
    with pytest.raises(GeneratorError, match=r"generator.image-encoder .* holds no config.json"):
        _send(context, MessageType.QUERY, ours, weights=False)
    context.run_config["lora.image-tokens"] = 0
    ours = request_record(0, _handshake(context))
    assert _send(context, MessageType.QUERY, ours, weights=False)


def test_training_changes_the_model_and_reports_what_it_did() -> None:
    context = _context()
    node, reply = Node.of(context), _train(context)
    start = node.template
    assert reply.weights is not None
    assert any(not torch.equal(reply.weights[key], start[key]) for key in start)
    assert reply.num_examples == reply.real_images == len(node.data.train)
    np.testing.assert_array_equal(reply.real_counts, node.client.real_counts)
    assert reply.held is None
    assert reply.discrepancy is None
    assert reply.loss > 0


def test_training_repeats_itself_and_differs_between_rounds_and_clients() -> None:
    first, again = _train(_context()), _train(_context())
    assert first.weights is not None
    assert again.weights is not None
    assert all(torch.equal(first.weights[key], again.weights[key]) for key in first.weights)
    assert _train(_context(), number=2).loss != first.loss
    assert _train(_context(1)).loss != first.loss


def test_the_server_s_quotas_are_filled_exactly(second_pipeline: Path, tmp_path: Path) -> None:
    context = _context(
        **{
            "method": "regl-dpd",
            "supplement.adapter": "frozen",
            "generator.path": str(second_pipeline),
            "generator.steps": 2,
            "probe.per-class": 1,
            "cache-dir": str(tmp_path),
        }
    )
    quotas = np.array([0, 2, 0, 1, 0, 0, 0, 0, 0, 3])
    reply = _train(context, number=2, quotas=quotas)
    np.testing.assert_array_equal(reply.held, quotas)
    np.testing.assert_array_equal(reply.synthetic_counts, quotas)
    assert reply.num_examples == reply.real_images + 6
    assert reply.discrepancy is not None
    assert reply.facts["generated"] == 6
    # A second time nothing has to be made.
    assert _train(context, number=2, quotas=quotas).facts["reused"] == 6


def test_a_client_without_images_says_so_without_a_model() -> None:
    context = _context(1, method="central")
    reply = _train(context)
    assert reply.num_examples == 0
    assert reply.weights is None


def test_evaluation_measures_the_given_model_on_the_clients_own_test_set() -> None:
    context = _context()
    ours = request_record(3, _handshake(context))
    reply = EvaluateReply.read(
        _send(context, MessageType.EVALUATE, ours), server_round=3, num_classes=10
    )
    assert reply.num_examples == len(Node.of(context).data.test) > 0
    assert 0 <= reply.accuracy <= 1


@pytest.mark.parametrize("kind", [MessageType.QUERY, MessageType.TRAIN, MessageType.EVALUATE])
def test_no_work_is_done_for_other_code(kind: str) -> None:
    context = _context()
    foreign = Handshake("0123456789abcdef", _handshake(context).config_digest)
    with pytest.raises(ProtocolError, match=r"code-hash must be .* got '0123456789abcdef'"):
        _send(context, kind, TrainRequest(1).to_record(foreign))


@pytest.mark.parametrize(
    ("partition_id", "num_partitions", "message"),
    [
        (3, 3, "partition-id must be between 0 and num-partitions - 1 = 2, got 3"),
        ("0", 3, "partition-id must be a whole number in the node's configuration, got '0'"),
        (0, None, "num-partitions must be a whole number"),
    ],
)
def test_a_node_that_does_not_know_itself_is_refused(
    partition_id: object, num_partitions: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Node.of(_context(partition_id, num_partitions))


def test_an_invalid_run_configuration_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="rounds must be >= 1"):
        Node.of(_context(rounds=0))


def test_a_file_of_prompts_lies_where_the_operator_allows(tmp_path: Path) -> None:
    outside, allowed = tmp_path / "prompts.json", tmp_path / "allowed"
    allowed.mkdir()
    outside.write_text('{"0": "a zero"}')
    context = _context(method="regl", **{"generator.prompts": str(outside)})
    context.node_config["data-root"] = str(allowed)
    with pytest.raises(DataError, match=r"generator\.prompts must lie in .*data-root"):
        Node.of(context)
    inside = allowed / outside.name
    outside.rename(inside)
    context.run_config["generator.prompts"] = str(inside)
    assert Node.of(context).config.generator.prompts == '{"0": "a zero"}'


def test_a_file_of_a_partition_lies_where_the_operator_allows(tmp_path: Path) -> None:
    outside, allowed = tmp_path / "who.csv", tmp_path / "allowed"
    allowed.mkdir()
    outside.write_text("client,row\n0,1\n")
    context = _context(**{"partition.scheme": "file", "partition.file": str(outside)})
    context.node_config["data-root"] = str(allowed)
    (allowed / "link.csv").symlink_to(outside)
    for path in (outside, allowed / "link.csv"):
        context.run_config["partition.file"] = str(path)
        with pytest.raises(DataError, match=r"partition\.file must lie in .*data-root"):
            Node.of(context)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("teaching.say='noisy'", {"teaching.head": "experts", "teaching.say": "noisy"}),
        ("privacy.noise=4.0", {"method": "regl-dpd", "privacy.noise": 4.0}),
    ],
)
def test_a_deployed_node_draws_noise_only_where_the_run_cannot_make_it_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, changes: dict[str, Scalar]
) -> None:
    """In the run's ``cache-dir`` there is another secret, and other noise, for every folder."""
    context = _context(**{"share-diagnostics": False} | changes)
    assert Node.of(context)  # a simulation has no operator to be protected from
    monkeypatch.setattr("sys.argv", ["/bin/flwr-clientapp"])
    with pytest.raises(ConfigError, match=f"{key} .*needs state-dir .*--node-config 'state-dir="):
        Node.of(context)
    context.run_config["privacy.reproducible"] = True  # has no secret
    assert Node.of(context)
    context.run_config["privacy.reproducible"] = False
    context.node_config["state-dir"] = str(tmp_path)
    assert Node.of(context)


@pytest.mark.parametrize(
    "changes", [{"method": "fedavg"}, {"method": "regl"}, {"method": "regl-dpd", "rounds": 2}]
)
def test_a_deployed_node_lets_noise_pass_that_is_never_drawn(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Scalar]
) -> None:
    """No vector leaves it."""
    monkeypatch.setattr("sys.argv", ["/bin/flwr-clientapp"])
    assert Node.of(_context(**{"share-diagnostics": False, "privacy.noise": 4.0} | changes))


def test_an_adapter_that_comes_may_be_of_the_rank_that_fits(second_pipeline: Path) -> None:
    own = {
        "method": "feddpd",
        "supplement.site": "download",
        "generator.path": str(second_pipeline),
    }
    node = Node.of(_context(**own))
    assert node.config.to_flat()["lora.rank"] == "auto"
    limits = node.payload_limits
    assert limits is not None
    assert limits.adapter() == most_adapter_bytes(second_pipeline, 8)
