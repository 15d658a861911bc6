"""Tiny random pipelines of every family, made anew in each session."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = ["▁", *string.ascii_lowercase]


def _t5() -> tuple[Any, Any]:
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0)]
    vocabulary = [*special, *((piece, -float(n)) for n, piece in enumerate(WORDS, start=1))]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=16)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4
    )
    return tokenizer, T5EncoderModel(config)


def _clip(tokenizer: Any, *, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _vae(channels: int, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=0.5,
        **settings,
    )


def _wake(module: Any, *names: str) -> None:
    """Give layers that a paper starts at zero a part in the output."""
    with torch.no_grad():
        for name in names:
            for parameter in module.get_submodule(name).parameters():
                parameter.normal_(std=0.2)


def _sdxl(clip_tokenizer: Any, solver: str, spacing: str = "leading") -> Any:
    import diffusers
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    solver_class = getattr(diffusers, f"{solver}Scheduler")
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + 16,
        cross_attention_dim=32,
        norm_num_groups=4,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(4),
        text_encoder=_clip(clip_tokenizer, projected=False),
        text_encoder_2=_clip(clip_tokenizer, projected=True),
        tokenizer=clip_tokenizer,
        tokenizer_2=clip_tokenizer,
        unet=unet,
        scheduler=solver_class(beta_schedule="scaled_linear", timestep_spacing=spacing),
        force_zeros_for_empty_prompt=True,
    )


def _lcm(clip_tokenizer: Any) -> Any:
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        time_cond_proj_dim=12,
    )
    return LatentConsistencyModelPipeline(
        vae=_vae(4),
        text_encoder=_clip(clip_tokenizer, projected=False),
        tokenizer=clip_tokenizer,
        unet=unet,
        scheduler=LCMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sd3(clip_tokenizer: Any, *, told_by_t5: bool, dynamic: bool = False, **blocks: Any) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=8,
        out_channels=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=16,
        **blocks,
    )
    tokenizer, encoder = _t5()
    # As large as two CLIPs side by side, as in the real one.
    if told_by_t5:
        from transformers import T5Config, T5EncoderModel

        encoder = T5EncoderModel(T5Config.from_dict({**encoder.config.to_dict(), "d_model": 32}))
    shifting = {"use_dynamic_shifting": True} if dynamic else {"shift": 3.0}
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**shifting),
        vae=_vae(8, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(clip_tokenizer, projected=True),
        tokenizer=clip_tokenizer,
        text_encoder_2=_clip(clip_tokenizer, projected=True),
        tokenizer_2=clip_tokenizer,
        text_encoder_3=encoder if told_by_t5 else None,
        tokenizer_3=tokenizer if told_by_t5 else None,
    )


def _pixart() -> Any:
    from diffusers import DDIMScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    tokenizer, encoder = _t5()
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        cross_attention_dim=16,
        caption_channels=16,
        in_channels=4,
        out_channels=8,
        use_additional_conditions=False,
    )
    return PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=_vae(4),
        transformer=transformer,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    )


def _sana(*, solver: str) -> Any:
    from diffusers import (
        AutoencoderDC,
        DPMSolverMultistepScheduler,
        FlowMatchEulerDiscreteScheduler,
        SanaPipeline,
        SanaTransformer2DModel,
    )
    from transformers import Gemma2Config, Gemma2Model

    tokenizer, _ = _t5()
    transformer = SanaTransformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
    )
    vae = AutoencoderDC(
        latent_channels=4,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        attention_head_dim=4,
        scaling_factor=0.5,
    )
    encoder = Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            pad_token_id=0,
        )
    )
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    scheduler = (
        DPMSolverMultistepScheduler(**flow)
        if solver == "dpm"
        else FlowMatchEulerDiscreteScheduler(shift=3.0)
    )
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=vae,
        transformer=transformer,
        scheduler=scheduler,
    )


def _flux(clip_tokenizer: Any, *, distilled: bool) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=distilled,
        axes_dims_rope=(2, 2, 4),
    )
    tokenizer, encoder = _t5()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=distilled, shift=1.0),
        vae=_vae(4, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(clip_tokenizer, projected=False),
        tokenizer=clip_tokenizer,
        text_encoder_2=encoder,
        tokenizer_2=tokenizer,
        transformer=transformer,
    )


MAKERS: Mapping[str, Callable[[Any], Any]] = {
    "sdxl": lambda tokenizer: _sdxl(tokenizer, "EulerDiscrete"),
    "sdxl-turbo": lambda tokenizer: _sdxl(tokenizer, "EulerAncestralDiscrete", "trailing"),
    "sdxl-lightning": lambda tokenizer: _sdxl(tokenizer, "EulerDiscrete", "trailing"),
    "sdxl-lcm": lambda tokenizer: _sdxl(tokenizer, "LCM"),
    "sdxl-tcd": lambda tokenizer: _sdxl(tokenizer, "TCD"),
    "lcm": _lcm,
    "sd3": lambda tokenizer: _sd3(tokenizer, told_by_t5=True),
    "sd3-without-t5": lambda tokenizer: _sd3(tokenizer, told_by_t5=False),
    # Stable Diffusion 3.5 medium: norms of queries and keys, a second attention in some blocks.
    "sd3.5": lambda tokenizer: _sd3(
        tokenizer, told_by_t5=False, qk_norm="rms_norm", dual_attention_layers=(0,)
    ),
    "sd3-shifted-by-size": lambda tokenizer: _sd3(tokenizer, told_by_t5=False, dynamic=True),
    "pixart": lambda _: _pixart(),
    "sana": lambda _: _sana(solver="euler"),
    "sana-dpm": lambda _: _sana(solver="dpm"),
    "flux-schnell": lambda tokenizer: _flux(tokenizer, distilled=False),
    "flux-dev": lambda tokenizer: _flux(tokenizer, distilled=True),
}


@pytest.fixture(scope="package")
def pipelines(
    tmp_path_factory: pytest.TempPathFactory, second_pipeline: Path
) -> Callable[[str], Path]:
    """Return what writes the tiny pipeline of a name, once, and returns its folder."""
    from transformers import CLIPTokenizer

    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            tokenizer = CLIPTokenizer.from_pretrained(second_pipeline / "tokenizer")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                pipeline = MAKERS[name](tokenizer)
                denoiser = getattr(pipeline, "transformer", None)
                if denoiser is not None:
                    _wake(denoiser, "proj_out")
            made[name] = tmp_path_factory.mktemp(name)
            pipeline.save_pretrained(made[name], safe_serialization=True)
        return made[name]

    return folder
