"""A VAE whose memory does not hold one picture: tiles, in every family's kind of VAE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.generator import vae_tiles
from regl_app.generator.foundation import Foundation

SIDE = 64


@pytest.mark.parametrize("work", ["decode", "encode"])
@pytest.mark.parametrize("name", ["sdxl", "sd3", "pixart", "sana", "flux-dev"])
def test_tiles_make_what_the_vae_makes_of_that_part(
    name: str, work: str, pipelines: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae_tiles, "LEAST_TILE", SIDE // 4)
    config = GeneratorConfig(path=str(pipelines(name)), image_size=SIDE, precision="fp32")
    found = Foundation.load(config, ("a cat",))
    latents = torch.randn(2, *found.latent_shape, generator=torch.Generator().manual_seed(0))
    pictures = found.decode(latents)
    given, call = (latents, found.decode) if work == "decode" else (pictures, found.encode)
    whole = call(given)
    corner = given[..., : given.shape[-1] // 2, : given.shape[-1] // 2]
    expected = call(corner)

    assert vae_tiles.smaller_tiles(found)
    made = call(given)
    assert made.shape == whole.shape and made.isfinite().all()
    own = expected.shape[-1] * 3 // 4  # the rest of the first tile is the next one's
    assert torch.allclose(made[..., :own, :own], expected[..., :own, :own], atol=1e-5)
    assert not torch.allclose(made, whole, atol=1e-5)  # or nothing was cut
    while vae_tiles.smaller_tiles(found):
        assert call(given).shape == whole.shape
