"""Whether the negative prompt is heard: only what is guided by a second pass is told it."""

from __future__ import annotations

from regl_app.config.supplement_sections import GeneratorConfig


def unheard(config: GeneratorConfig, embeds_guidance: bool) -> str:
    """Return why the negative prompt has no effect and what helps; '' if it has, or is not set.

    Args:
        config: with no key left at 'auto'.
        embeds_guidance: whether the denoiser takes the guidance scale as an input.
    """
    if not config.negative_prompt:
        return ""
    if embeds_guidance:
        why = "the generator's denoiser takes generator.guidance as an input, and is never told it"
        other = "take a checkpoint that was not distilled so"
    elif config.guidance <= 1:
        why = f"generator.guidance={config.guidance:g} is off"
        other = (
            "set generator.guidance above 1, where the checkpoint was not distilled to go without"
        )
    elif config.guidance_stop == 0:
        why = "generator.guidance-stop=0 guides no step"
        other = "set generator.guidance-stop above 0"
    else:
        return ""
    return (
        f"generator.negative-prompt={config.negative_prompt!r} has no effect: {why} "
        f"(leave it empty, or {other})"
    )
