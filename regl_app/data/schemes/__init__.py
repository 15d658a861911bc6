"""Partitions of training images: one scheme a file, one line of ``config.choices.SCHEMES`` each."""
