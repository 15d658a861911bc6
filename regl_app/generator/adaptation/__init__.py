"""Adapting a generator: LoRA to a client's images (ReGL), DPO to its preferences (FedDPD)."""
