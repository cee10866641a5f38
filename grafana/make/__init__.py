"""Makes the dashboards from the settings that decide on names, labels and buckets.

`live.py` knows those; `queries.py` writes PromQL, `panels.py` and `page.py` put it into the form that Grafana reads;
each other file is one dashboard.
"""
