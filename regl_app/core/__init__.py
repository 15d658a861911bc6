"""The ground: errors, files, caches, seeds, log, devices, types. It imports nothing of ours."""
