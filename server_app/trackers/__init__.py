"""Where a run is followed from: TensorBoard, Weights & Biases, MLflow, behind one interface."""
