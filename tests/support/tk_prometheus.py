"""A real Prometheus on loopback that scrapes a few ports once a second."""

import os
import socket
import subprocess
import time
import urllib.parse

from tk_http import get, get_json
from tk_wait import eventually

_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: shop
    metrics_path: {path}
    static_configs: [{{targets: [{targets}], labels: {{instance: shop}}}}]
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Prometheus:
    """Scrapes all of `ports` as one instance, so that a series goes on whichever worker answers."""

    def __init__(self, program, folder, port, path="/observability/metrics"):
        self.program, self.folder, self.port = program, folder, free_port()
        self.folder.mkdir()
        config = _CONFIG.format(path=path, targets=f"'127.0.0.1:{port}'")
        (self.folder / "prometheus.yml").write_text(config)

    def __enter__(self):
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self.program,
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--enable-feature=exemplar-storage",
                ],
                env={k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")},
                stdout=log,
                stderr=log,
            )
        try:
            eventually(lambda: get(self.port, "/-/ready").status == 200, 30)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure):
        self._process.kill()
        self._process.wait()
        if any(failure):
            print((self.folder / "log").read_text()[-3000:])

    def query(self, expression):
        """Result of an instant query."""
        return self.ask("query", query=expression)["result"]

    def ask(self, what, **parameters):
        """What the HTTP API answers, such as `ask("series", **{"match[]": "up"})`."""
        answer = get_json(self.port, f"/api/v1/{what}?{urllib.parse.urlencode(parameters)}")
        assert answer["status"] == "success", answer
        return answer["data"]

    def label_values(self, label, selector=None):
        """Values of a label, of all series or of those that a selector chooses."""
        chosen = {"match[]": selector} if selector else {}
        return sorted(self.ask(f"label/{label}/values", **chosen))

    def labels(self, metric):
        """Names of all labels that series of a metric have."""
        return {name for series in self.ask("series", **{"match[]": metric}) for name in series}

    def value(self, expression):
        """The one value of an expression; 0 where it has none."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else 0.0

    def exemplars(self, selector):
        """Exemplars of the last hour: the labels of each, with its series' name."""
        now = time.time()
        query = urllib.parse.urlencode({"query": selector, "start": now - 3600, "end": now + 60})
        answer = get_json(self.port, f"/api/v1/query_exemplars?{query}")
        assert answer["status"] == "success", answer
        return [
            (series["seriesLabels"]["__name__"], each["labels"], float(each["value"]))
            for series in answer["data"]
            for each in series["exemplars"]
        ]

    def scrapes(self):
        """How many scrapes succeeded so far."""
        return self.value("sum_over_time(up[1h])")

    def counters(self):
        """Names of all counters and of the counting parts of histograms that the service exposes."""
        metadata = get_json(self.port, "/api/v1/metadata")["data"]
        names = []
        for name, (entry, *_) in metadata.items():
            if entry["type"] == "counter":
                names.append(name if name.endswith("_total") else f"{name}_total")
            elif entry["type"] == "histogram":
                names += [f"{name}_bucket", f"{name}_count", f"{name}_sum"]
        return names
