"""The exporter: committed totals for Prometheus and retained history as JSON, over HTTP."""

from .app import create_app

__all__ = ["create_app"]
