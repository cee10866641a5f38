"""Errors of a real service, from the exception to the group, through kills, restarts and two workers."""

from tk_http import get, get_json, request
from tk_metrics import scrape, total
from tk_service import Service
from tk_wait import eventually

ERRORS, GROUPS = "/observability/monitoring/errors", "/observability/monitoring/errors/groups"


def groups(service, **filters):
    query = "&".join(f"{key}={value}" for key, value in filters.items())
    return get_json(service.port, f"{GROUPS}?{query}")["groups"]


def group_of(service, type_):
    (group,) = groups(service, type=type_)
    return group


def fail(service, path, times=1):
    """Ask every worker so often; the traces."""
    answers = [get(port, path) for _ in range(times) for port in service.ports]
    return [each.headers.get("x-trace-id") or each.json["trace_id"] for each in answers]


def test_errors_of_a_service(tmp_path):
    """Logged and recorded on spans each exception is one error in one group; resolved, it comes back."""
    with Service(tmp_path / "data", tmp_path, workers=2) as service:
        traces = [trace for card in range(5) for trace in fail(service, f"/logged/{card}")]
        group = eventually(lambda: _counted(service, "PermissionError", 10), 10)
        assert group["culprit"] == "support.tk_app in _charge"
        errors = get_json(service.port, f"{ERRORS}?group={group['id']}")["errors"]
        assert sorted(error["trace_id"] for error in errors) == sorted(traces)
        assert {error["operation"] for error in errors} == {"GET /logged/{card}"}
        assert {error["severity"] for error in errors} == {"critical"}
        told = errors[0]["attributes"]
        assert told["url.path_parameters"] == {"card": "4"}
        assert (told["log.logger"], told["log.body"]) == ("shop.till", "could not charge")
        assert told["url.full"].endswith("/logged/4")
        assert group["newest_trace_id"] in traces

        resolved = request("POST", service.ports[1], f"{GROUPS}/{group['id']}/resolve")
        assert (resolved.status, resolved.json["state"]) == (200, "resolved")
        assert group_of(service, "PermissionError")["state"] == "resolved"
        fail(service, "/logged/9")
        back = eventually(lambda: _counted(service, "PermissionError", 12), 10)
        assert (back["state"], back["regressions"]) == ("open", 1)
        samples = scrape(service.port)
        assert total(samples, "tracekeep_error_groups_regressed_total") == 1
        assert total(samples, "exceptions_total", exception_type="PermissionError") == 12


def test_a_handled_error_is_operational(tmp_path):
    """It is told by hand, its request was answered: the group says that it was to be expected."""
    with Service(tmp_path / "data", tmp_path) as service:
        fail(service, "/handled", 3)
        group = eventually(lambda: _counted(service, "ConnectionResetError", 3), 10)
        assert group["operational"]
        (error, *_) = get_json(service.port, f"{ERRORS}?group={group['id']}")["errors"]
        assert (error["severity"], error["attributes"]["attempt"]) == ("operational", 1)
        assert error["attributes"]["http.response.status_code"] == 200


def test_groups_through_kills_and_restarts(tmp_path):
    """Every error that a client was told of is counted once, whichever process died meanwhile."""
    with Service(tmp_path / "data", tmp_path, workers=2) as service:
        count = 0
        for victim in (0, 1, 0):
            count += len(fail(service, f"/logged/{victim}", 10))
            service.kill(victim)
            service.start(victim)
            service.wait_ready()
        count += len(fail(service, "/logged/7", 5))
        service.kill_all()
        service.start_all()
        service.wait_ready()
        group = eventually(lambda: _counted(service, "PermissionError", count), 15)
        assert sum(each["count"] for each in groups(service)) == group["count"] == count
        details = get_json(service.port, f"{GROUPS}/{group['id']}")
        assert sum(hour["count"] for hour in details["hours"]) == count
        assert get_json(service.port, ERRORS)["stats"]["total"] == count
        assert total(scrape(service.port), "tracekeep_error_groups_new_total") == 1


def _counted(service, type_, count):
    found = groups(service, type=type_)
    return found[0] if found and found[0]["count"] == count else None
