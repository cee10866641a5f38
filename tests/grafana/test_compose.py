"""compose.yaml and the Containerfile: what they name exists, nothing is open to the network, nothing floats."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
COMPOSE = yaml.safe_load((GRAFANA / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
CONTAINERFILE = (GRAFANA / "Containerfile").read_text()
PINNED = re.compile(r":v?\d+\.\d+\.\d+$")

each_service = pytest.mark.parametrize("name", SERVICES)


def mounts(name):
    """(source, target, options) each."""
    return [tuple((each + ":rw").split(":")[:3]) for each in SERVICES[name].get("volumes", ())]


@each_service
def test_ports_are_loopbacks(name):
    """Every published port is bound to 127.0.0.1."""
    assert SERVICES[name]["ports"]
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


@each_service
def test_images_are_pinned(name):
    """Each image has a full version."""
    assert PINNED.search(SERVICES[name]["image"]), SERVICES[name]["image"]


@each_service
def test_health_is_checked(name):
    """Each service has a check, at its own port."""
    check = SERVICES[name]["healthcheck"]
    port = SERVICES[name]["ports"][0].rsplit(":", 1)[1]
    assert f"http://127.0.0.1:{port}/" in " ".join(check["test"])
    assert check.keys() == {"test", "interval", "timeout", "retries", "start_period"}


@each_service
def test_privileges_are_dropped(name):
    """No service keeps a capability or can gain one."""
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]


@each_service
def test_what_is_mounted_exists(name):
    """Each file is there and mounted read-only; each volume is declared."""
    for source, _target, options in mounts(name):
        if source.startswith("."):
            assert options == "ro"
            assert (GRAFANA / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


def test_volumes_are_used():
    """No volume is left over."""
    used = {source for name in SERVICES for source, *_ in mounts(name)}
    assert set(COMPOSE["volumes"]) == {source for source in used if not source.startswith(".")}


def test_dependencies_wait_for_health():
    """Each starts when what it needs answers."""
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES
            assert how == {"condition": "service_healthy"}


def test_no_password_has_a_default():
    """Grafana's password must be given: without it compose refuses to start."""
    environment = SERVICES["grafana"]["environment"]
    assert re.fullmatch(r"\$\{GRAFANA_PASSWORD:\?.+\}", environment["GF_SECURITY_ADMIN_PASSWORD"])
    for name in environment:
        assert "ANONYMOUS" not in name
        assert name == "GF_SECURITY_ADMIN_PASSWORD" or "PASSWORD" not in name


def test_prometheus_keeps_exemplars():
    """The flag without which exemplars are thrown away, and the files where the command looks for them."""
    command = SERVICES["prometheus"]["command"]
    assert "--enable-feature=exemplar-storage" in command
    targets = {target for _, target, _ in mounts("prometheus")}
    assert {"/etc/prometheus/prometheus.yml", "/etc/prometheus/rules", "/prometheus"} <= targets
    assert "--config.file=/etc/prometheus/prometheus.yml" in command
    assert "--storage.tsdb.path=/prometheus" in command


def test_prometheus_scrapes_the_demo():
    """The target of the shipped configuration is the demo, by its name and port here."""
    (job,) = yaml.safe_load((GRAFANA / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    port = SERVICES["demo"]["ports"][0].rsplit(":", 1)[1]
    assert job["static_configs"] == [{"targets": [f"demo:{port}"]}]


def test_grafana_reads_what_is_provisioned():
    """Both folders are mounted where Grafana looks."""
    wanted = {
        (f"./provisioning/{part}", f"/etc/grafana/provisioning/{part}", "ro") for part in ("datasources", "dashboards")
    }
    assert wanted <= set(mounts("grafana"))


def test_demo_is_built_from_what_the_wheel_needs():
    """The image's build has all that goes into the wheel and what its build reads, and it exists."""
    sources = [source for line in _lines("COPY") if "--from" not in line for source in shlex.split(line)[1:-1]]
    for source in sources:
        assert (ROOT / source).exists(), source
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hatch = build["tool"]["hatch"]["build"]
    wanted = {*hatch["targets"]["wheel"]["only-include"], *build["project"]["license-files"], "pyproject.toml"}
    wanted |= {build["project"]["readme"], hatch["hooks"]["custom"]["path"].split("/")[0]}
    assert wanted <= set(sources)


def test_demo_does_not_run_as_root():
    """The last stage has a user of its own, whose folder is the volume; images are pinned to a minor version."""
    assert _lines("USER") == ["USER tracekeep"]
    assert ("demo-data", "/data", "rw") in mounts("demo")
    assert "VOLUME /data" in CONTAINERFILE
    for line in _lines("FROM"):
        assert re.search(r"python:3\.\d+-(slim-)?bookworm", line)


def test_demo_is_given_what_the_command_takes():
    """The options of the image and of compose.yaml are options of `tracekeep demo`."""
    from typer.main import get_command

    from tracekeep.exporter.cli import create_command

    known = {option for each in get_command(create_command(print)).commands["demo"].params for option in each.opts}
    given = [part for part in SERVICES["demo"]["command"] if part.startswith("--")]
    assert given
    assert set(given) <= known


def _lines(instruction):
    return [line for line in CONTAINERFILE.splitlines() if line.startswith(f"{instruction} ")]
