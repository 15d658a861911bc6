"""Data sources, partitions and long tails."""
