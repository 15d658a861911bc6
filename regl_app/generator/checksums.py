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
            "ffa53cea76c1235a6817df547da95fbc5da32871d69273cb5ac8cc9aa41557ad"
        ),
        "tokenizer/tokenizer.json": (
            "a8a5e138115a174a4dbffc8778cba713e04f5d62362338acb874465ded4d60d0"
        ),
        "tokenizer/tokenizer_config.json": (
            "6b58667b77fc658d9a6a7056ad703210b2c4071cf79f4c90002998072bbdfb4a"
        ),
        "unet/config.json": ("4bc3c27b80014fd708aeeb36f7adb6039bb0764d77b079eca9a30ac9c2144900"),
        "unet/diffusion_pytorch_model.safetensors": (
            "49334d5632b633a84ce02b0cb23bf245bf8bebd638498787da6c18cc4d7ab965"
        ),
        "vae/config.json": ("deb2c0c67a3b20aaca36f1c68c0e2387414b3a5b7b276435796d59d681f4970f"),
        "vae/diffusion_pytorch_model.safetensors": (
            "f03ebcfeba0721cd801a5a6db8b8188650ceee730a9898be9ad7de584b58f7a2"
        ),
    }
)
