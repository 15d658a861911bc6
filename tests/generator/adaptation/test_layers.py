from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.generator.adaptation.layers import lora_layers, without_lora, wrapped_layers
from regl_app.generator.foundation import Foundation


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_its_layers_a_denoiser_is_the_one_before(precision: str) -> None:
    config = GeneratorConfig.model_validate({"precision": precision})
    foundation = Foundation.load(config, ("the digit one", "the digit two"))
    random = torch.Generator().manual_seed(0)
    latents = torch.randn((2, *foundation.latent_shape), generator=random)

    def predict() -> torch.Tensor:
        return foundation.predict(latents, torch.tensor([10, 700]), torch.tensor([0, 1]))

    def states(layers: Sequence[torch.nn.Module]) -> list[bool]:
        return [layer.disable_adapters for layer in layers]

    lora = LoraConfig(layers="all", rank=2)
    with lora_layers(foundation, lora, 0) as parameters:
        layers = wrapped_layers(foundation.denoiser)
        assert len(parameters) == 2 * len(layers) > 0
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.05)
            tuned = predict()
            with without_lora(layers):
                assert all(states(layers))
                reference = predict()
            assert not any(states(layers))
            again = predict()
        with pytest.raises(KeyError), without_lora(layers):
            raise KeyError
        assert not any(states(layers))
        assert all(parameter.requires_grad for parameter in parameters)
    with torch.no_grad():
        plain = predict()
    if precision == "fp32":
        # While a processor tunes, attention is computed by another kernel.
        torch.testing.assert_close(reference, plain, atol=1e-4, rtol=1e-4)
    assert torch.equal(tuned, again)
    assert (tuned - reference).abs().max() > 10 * (reference - plain).abs().max()
