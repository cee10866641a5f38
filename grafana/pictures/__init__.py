"""Draws what Prometheus answers to the main queries: `python -m tracekeep.grafana.pictures`."""
