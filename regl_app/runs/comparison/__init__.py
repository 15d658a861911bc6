"""Methods x seeds: what to run, what came of it, how sure that is."""
