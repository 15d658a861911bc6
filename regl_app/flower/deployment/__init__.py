"""Deployment on real machines: keys, and the metrics that operators scrape."""
