"""Durable observability for Python services: spans, errors and metrics that outlive the process.

The rooms are `tracekeep.instrumentation` (record), `tracekeep.storage` (keep) and
`tracekeep.exporter` (expose). Import from them; this module holds nothing.
"""
