"""A finished run's model in use: on pictures, on labelled images, in other programs."""
