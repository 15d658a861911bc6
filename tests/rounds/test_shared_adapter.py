"""What the server makes of the clients' parts, and whom it hands the adapter."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from regl_app.config import RunConfig
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.shared_adapter import AdapterResult, SharedTuning, odd_part
from regl_app.rounds.sites.client import ClientSite
from server_app.checkpoint_state import ServerMemory

NAME = "unet.a.lora_B.weight"


def part(key: int, images: int, value: float = 0.0, number: int = 1) -> AdapterResult:
    up = {NAME: torch.full((2, 1), value)} if images else {}
    facts = {"adapter_steps": 3, "adapter_loss": value} if images else {}
    return AdapterResult(key, number, images, up, {"adapt": 2.0} if images else {}, facts)


def tuned(*parts: AdapterResult) -> SharedTuning:
    tuning = SharedTuning()
    tuning.add({each.partition_id: each for each in parts})
    return tuning


def result(key: int, adapter: str = "") -> RoundResult:
    return RoundResult(
        *(key, 1, 5, 5, 0.1, {}),
        adapter=adapter,
        seconds={"adapt": 0.5, "train": 1.0},
        facts={"adapter_steps": 0, "generated": 4},
    )


def site() -> ClientSite:
    return ClientSite(RunConfig.from_flat({"method": "regl-shared"}), 3)


def test_a_client_counts_by_its_images() -> None:
    tuning = tuned(part(0, 1, 1.0), part(1, 3, 5.0), part(2, 0))
    assert torch.equal(tuning.up[NAME], torch.full((2, 1), 4.0))


def test_a_round_that_nobody_tunes_in_leaves_it_as_it_was() -> None:
    tuning = tuned(part(0, 2, 1.0))
    tuning.add({0: part(0, 0, number=2)})
    assert torch.equal(tuning.up[NAME], torch.ones(2, 1))
    assert not tuned(part(0, 0)).up


def test_steps_and_seconds_of_all_its_rounds_add_up() -> None:
    tuning = tuned(part(0, 2, 1.0))
    tuning.add({0: part(0, 2, 0.5, number=2)})
    assert tuning.facts[0] == {"adapter_steps": 6, "adapter_loss": 0.5}
    assert tuning.seconds[0] == 4.0


def test_what_a_client_says_of_its_steps_need_not_be_true() -> None:
    wrong = dataclasses.replace(part(0, 2**62, 1.0), facts={"adapter_steps": "many"})
    tuning = tuned(wrong, part(1, 2**62, 3.0))
    tuning.add({0: part(0, 2, 1.0)})
    assert tuning.facts == {
        0: {"adapter_steps": 3, "adapter_loss": 1.0},
        1: {"adapter_steps": 3, "adapter_loss": 3.0},
    }
    assert torch.equal(tuned(wrong, part(1, 2**62, 3.0)).up[NAME], torch.full((2, 1), 2.0))


def test_what_is_not_finite_is_told_by_name() -> None:
    assert odd_part(part(0, 2, 1.0)) == ""
    assert odd_part(part(0, 2, np.inf)) == f"adapter[{NAME!r}] with NaN or infinity"


def test_b_is_sent_to_those_who_do_not_keep_it() -> None:
    here = site()
    here.share(tuned(part(0, 2, 1.0)))
    sent = here.adapter(0)
    assert sent is not None and sent.up
    here.answered([0, 1, 2], {0: result(0, sent.digest), 1: result(1, "another")})
    for key, whole in ((0, False), (1, True), (2, True), (3, True)):
        adapter = here.adapter(key)
        assert adapter is not None
        assert (adapter.digest, bool(adapter.up)) == (sent.digest, whole)
    here.answered([0], {})  # it did not answer, so that it may have lost it
    again = here.adapter(0)
    assert again is not None and again.up


def test_the_first_round_tells_what_tuning_took() -> None:
    here = site()
    here.share(tuned(part(0, 2, 1.0), part(1, 2, 1.0)))
    here.after_average(1, {}, {0: result(0)})
    assert here.notes == {
        0: {
            "seconds": {"adapt": 2.5, "train": 1.0},
            "facts": {"adapter_steps": 3, "adapter_loss": 1.0, "generated": 4},
        }
    }
    here.after_average(2, {}, {0: result(0)})
    assert here.notes == {}


def test_the_adapter_survives_in_a_checkpoint() -> None:
    here, there = site(), site()
    here.share(tuned(part(0, 2, 1.0)))
    adapter = here.adapter(0)
    assert adapter is not None
    here.answered([0], {0: result(0, adapter.digest)})
    memory = ServerMemory("run", **here.memory()).to_tensors()
    there.restore(vars(ServerMemory.from_tensors(memory)))
    for key in (0, 1):
        one, other = here.adapter(key), there.adapter(key)
        assert one is not None and other is not None
        assert one.digest == other.digest
        assert other.up.keys() == adapter.up.keys()  # it is sent again, once
    without = ServerMemory("run", **site().memory()).to_tensors()
    assert not any(name.startswith("shared.") for name in without)


def test_without_one_there_is_nothing_to_hand_out() -> None:
    here = site()
    here.share(tuned(part(0, 0)))
    assert here.adapter(0) is None
    here.answered([0], {0: result(0)})
    assert here.memory()["shared"] == {}
