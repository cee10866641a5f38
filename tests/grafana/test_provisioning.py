"""What Grafana is given to read: it parses, every key is one that Grafana knows, and the parts fit together.

The keys are those of Grafana 11.6: "Provision Grafana", "Configure the Prometheus data source" and "Configure the Tempo
data source" of its documentation, and the types of the two plugins' jsonData.
"""

from pathlib import Path

import pytest
import yaml

from tracekeep.storage.families import FAMILIES

GRAFANA = Path(__file__).parents[2] / "grafana"
SOURCES = GRAFANA / "provisioning/datasources/tracekeep.yaml"
PROVIDERS = GRAFANA / "provisioning/dashboards/tracekeep.yaml"

SOURCE = {
    "name": str, "type": str, "access": str, "orgId": int, "uid": str, "url": str, "user": str, "database": str,
    "basicAuth": bool, "basicAuthUser": str, "withCredentials": bool, "isDefault": bool, "jsonData": dict,
    "secureJsonData": dict, "version": int, "editable": bool,
}  # fmt: skip
JSON_DATA = {
    "prometheus": {
        "httpMethod": str, "timeInterval": str, "queryTimeout": str, "customQueryParameters": str,
        "manageAlerts": bool, "alertmanagerUid": str, "prometheusType": str, "prometheusVersion": str,
        "cacheLevel": str, "defaultEditor": str, "disableMetricsLookup": bool, "disableRecordingRules": bool,
        "incrementalQuerying": bool, "incrementalQueryOverlapWindow": str,
        "exemplarTraceIdDestinations": [{"name": str, "datasourceUid": str, "url": str, "urlDisplayLabel": str}],
    },
    "tempo": {
        "streamingEnabled": {"search": bool, "metrics": bool},
        "serviceMap": {"datasourceUid": str}, "nodeGraph": {"enabled": bool},
        "search": {"hide": bool, "filters": list}, "spanBar": {"type": str, "tag": str}, "tagLimit": int,
        "traceQuery": {"timeShiftEnabled": bool, "spanStartTimeShift": str, "spanEndTimeShift": str},
        "tracesToMetrics": {
            "datasourceUid": str, "spanStartTimeShift": str, "spanEndTimeShift": str,
            "tags": [{"key": str, "value": str}], "queries": [{"name": str, "query": str}],
        },
    },
}  # fmt: skip
PROVIDER = {
    "name": str, "orgId": int, "folder": str, "folderUid": str, "type": str, "disableDeletion": bool,
    "updateIntervalSeconds": int, "allowUiUpdates": bool, "options": {"path": str, "foldersFromFilesStructure": bool},
}  # fmt: skip


def load(path):
    return yaml.safe_load(path.read_text())


def unknown(found, known, where=""):
    """Where something differs from the form that is known."""
    if isinstance(known, dict) and isinstance(found, dict):
        strange = [f"{where}.{key}" for key in found.keys() - known.keys()]
        return strange + [each for key in found.keys() & known.keys() for each in unknown(found[key], known[key], key)]
    if isinstance(known, list) and isinstance(found, list):
        return [each for part in found for each in unknown(part, known[0], where)]
    return [] if isinstance(known, type) and type(found) is known else [f"{where}: {found!r}"]


def sources():
    return {each["type"]: each for each in load(SOURCES)["datasources"]}


def test_unknown_is_noticed():
    """A key that isn't there, and a value of another type, would be seen by the tests below."""
    assert unknown({"a": 1, "b": [{"c": "x"}]}, {"b": [{"d": str}]}) == [".a", "b.c"]
    assert unknown({"a": "true"}, {"a": bool}) == ["a: 'true'"]


def test_data_sources_are_grafanas():
    """Every key of the data sources is one that Grafana knows, with a value of the right type."""
    document = load(SOURCES)
    assert document.keys() == {"apiVersion", "datasources"}
    assert document["apiVersion"] == 1
    for source in document["datasources"]:
        assert unknown(source, {**SOURCE, "jsonData": JSON_DATA[source["type"]]}) == []
        assert {"name", "type", "access", "uid", "url"} <= source.keys()


def test_providers_are_grafanas():
    """So is every key of the dashboards' provider, and it looks where compose.yaml mounts them."""
    document = load(PROVIDERS)
    assert document.keys() == {"apiVersion", "providers"}
    (provider,) = document["providers"]
    assert unknown(provider, PROVIDER) == []
    mounts = load(GRAFANA / "compose.yaml")["services"]["grafana"]["volumes"]
    assert f"./dashboards:{provider['options']['path']}:ro" in mounts


def test_data_sources_lead_to_each_other():
    """Exemplars open traces in Tempo; its service map and its links to metrics ask Prometheus."""
    prometheus, tempo = sources()["prometheus"], sources()["tempo"]
    (destination,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert destination == {"name": "trace_id", "datasourceUid": tempo["uid"]}
    assert tempo["jsonData"]["serviceMap"]["datasourceUid"] == prometheus["uid"]
    assert tempo["jsonData"]["tracesToMetrics"]["datasourceUid"] == prometheus["uid"]
    assert tempo["jsonData"]["streamingEnabled"] == {"search": False, "metrics": False}


def test_data_sources_have_the_services_addresses():
    """Both are addressed as compose.yaml names them, at the ports that they listen on."""
    services = load(GRAFANA / "compose.yaml")["services"]
    for kind, name, path in (("prometheus", "prometheus", ""), ("tempo", "demo", "/observability/tempo")):
        port = services[name]["ports"][0].rsplit(":", 1)[1]
        assert sources()[kind]["url"] == f"http://{name}:{port}{path}"


def test_scrape_interval_is_the_data_sources():
    """`$__rate_interval` is right only when the data source knows how often Prometheus scrapes."""
    scraped = load(GRAFANA / "prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert sources()["prometheus"]["jsonData"]["timeInterval"] == scraped


@pytest.mark.parametrize("query", sources()["tempo"]["jsonData"]["tracesToMetrics"]["queries"], ids=str)
def test_links_to_metrics_name_ours(query):
    """What a span leads to is a metric of ours, with the dollar sign that provisioning needs doubled."""
    assert "{$$__tags," in query["query"]
    assert any(query["query"].count(f"{name}_") for name in FAMILIES)
