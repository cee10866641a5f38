"""Grafana's Tempo data source, answered from the store: https://grafana.com/docs/tempo/latest/api_docs/."""
