"""SHA-256 of the bundled generator's files; written by .ci/ship_generator.py."""

from collections.abc import Mapping
from types import MappingProxyType

CHECKSUMS: Mapping[str, str] = MappingProxyType(
    {
        "model_index.json": ("51aa48a46d617bea0aec198bc9af092dd14e7f1d18f3e724238e5a48c688b41e"),
        "scheduler/scheduler_config.json": (
            "6aa09835a5fa65b4112bcdd256ceeb18dd440a4e898c14aeefd283af88d2f8d6"
        ),
        "text_encoder/config.json": (
            "67902f8da8028dee6848115431cc6063700ba7bb02fe0516bdbc608b224c66e2"
        ),
        "text_encoder/model.safetensors": (
            "b3c30bccd1ca3e30c2c2a1c48042842e3a8087a55d01c016577ee307446644ed"
        ),
        "tokenizer/tokenizer.json": (
            "a8a5e138115a174a4dbffc8778cba713e04f5d62362338acb874465ded4d60d0"
        ),
        "tokenizer/tokenizer_config.json": (
            "6b58667b77fc658d9a6a7056ad703210b2c4071cf79f4c90002998072bbdfb4a"
        ),
        "unet/config.json": ("008e1e47d7877fac675b4c897d31773c01ad1fe5af386cff1929be9ba978e220"),
        "unet/diffusion_pytorch_model.safetensors": (
            "92e372594dfccd53f49fa0ef8bffe333ed01b4cb72209786763cbfdd29c2a1ee"
        ),
        "vae/config.json": ("deb2c0c67a3b20aaca36f1c68c0e2387414b3a5b7b276435796d59d681f4970f"),
        "vae/diffusion_pytorch_model.safetensors": (
            "f03ebcfeba0721cd801a5a6db8b8188650ceee730a9898be9ad7de584b58f7a2"
        ),
    }
)
