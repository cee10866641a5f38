"""What Grafana and Prometheus are given: dashboards and how they are made, provisioning, rules."""
