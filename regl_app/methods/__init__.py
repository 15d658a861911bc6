"""Local objectives: one file each, its difference from FedAvg."""
