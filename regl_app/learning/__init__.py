"""What is federated: models, methods (one file each), local training, evaluation."""
