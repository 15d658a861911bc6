"""What a client lacks, and how much of it is synthesized."""
