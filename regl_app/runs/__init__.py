"""What a run leaves: records, folder, history, checkpoints, comparison, report."""
