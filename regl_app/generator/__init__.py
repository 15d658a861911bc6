"""The diffusion foundation model: loading, sampling, adapting, pretraining."""
