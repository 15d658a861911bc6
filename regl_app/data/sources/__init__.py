"""Where images come from: one source a file, one line of the registry each."""
