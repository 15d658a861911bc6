"""Ways to run a federation: Flower's runtime, a SuperLink, or threads of this process."""
