"""The demo, and a Prometheus with the configuration and rules that are shipped; only what they wait for is shorter."""

import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import yaml
from tk_fresh import clean_environ
from tk_http import get
from tk_metrics import METRICS
from tk_prometheus import Prometheus, free_port
from tk_wait import eventually

SHIPPED = Path(__file__).parents[2] / "grafana/prometheus"
_NOT_METRICS = {"and", "or", "unless", "offset", "bool", "le", "inf", "nan"}


class Ruled(Prometheus):
    """Scrapes `ports` and evaluates the rules every second; alerts fire at once unless they are to be `patient`."""

    def __init__(self, program, folder, *ports, patient=False):
        super().__init__(program, folder, ports[0])
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (self.folder / "rules").mkdir()
        for path in (SHIPPED / "rules").glob("*.yml"):
            document = yaml.safe_load(path.read_text())
            for group in document["groups"]:
                group.pop("interval", None)
                for rule in group["rules"]:
                    if not patient:
                        rule.pop("for", None)
            (self.folder / "rules" / path.name).write_text(yaml.safe_dump(document))

    def firing(self):
        """Names of the alerts that fire."""
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}


@contextmanager
def demo(folder, *options):
    """`tracekeep demo` under its own load; gives its port once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "tracekeep", "demo", "--port", str(port), "--data-dir", str(folder / "data")]
    environment = clean_environ()
    with (folder / "demo.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
    try:
        eventually(lambda: get(port, METRICS).status == 200, 30)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=15)


def selectors(expression):
    """The instant selectors in an expression of PromQL, each once, in the order of appearance."""
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", expression)
    text = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", text)
    found = re.findall(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?(?!\s*[\w({:])", text)
    return list(dict.fromkeys(name + labels for name, labels in found if name.lower() not in _NOT_METRICS))
