"""What a client trains on beside its own images, wherever they were made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.rounds.client import Client
from regl_app.rounds.client_state import Memory
from regl_app.rounds.client_supplement import make_client_supplement
from regl_app.rounds.exchange import RoundTask
from regl_app.supplement.payload import Payload
from regl_app.supplement.spectrum import with_spectrum


@pytest.mark.parametrize("match", ["none", "spectrum"])
def test_what_the_server_made_is_matched_where_the_own_images_are(
    tmp_path: Path, match: str
) -> None:
    keys = {
        "method": "feddpd",
        "supplement.site": "download",
        "data.max-train": 60,
        "supplement.match": match,
        "cache-dir": str(tmp_path),
    }
    config = RunConfig.from_flat(keys)
    federation = Federation.load(config, 2)
    client = Client(
        config, 0, federation.source, federation.client(0), torch.device("cpu"), tmp_path, "a"
    )
    random = torch.Generator().manual_seed(0)
    shape = (6, *client.data.train.shape)
    pixels = torch.randint(0, 90, shape, generator=random, dtype=torch.uint8)
    sent = ImageSet(pixels, torch.arange(6))
    task = RoundTask(2, payload=Payload.of_images(sent))
    taken = make_client_supplement(client, task, client.model().state_dict(), Memory())
    expected = with_spectrum(sent, client.data.train) if match == "spectrum" else sent
    assert torch.equal(taken.images.images, expected.images)
    assert torch.equal(taken.images.labels, sent.labels)
    assert torch.equal(expected.images, sent.images) == (match == "none")
