"""Metrics: how what an application counts by itself becomes records."""

from .recorder import MetricsRecorder

__all__ = ["MetricsRecorder"]
