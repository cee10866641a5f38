import dataclasses
import math
from pathlib import Path

import pytest

from tracekeep.storage import SettingError, StoreSettings, TracekeepError, open_store
from tracekeep.storage.settings import resolve_data_dir, resolve_settings

FIELDS = {field.name: field for field in dataclasses.fields(StoreSettings)}
NUMBERS = [name for name, field in FIELDS.items() if type(field.default) in {int, float}]
WHOLE = [name for name in NUMBERS if type(FIELDS[name].default) is int]


def refused(error, name, value):
    """The error says what, and what is allowed; it is both ours and a ValueError."""
    assert (error.setting, error.value) == (name, value)
    assert isinstance(error, TracekeepError)
    assert isinstance(error, ValueError)
    for part in (repr(name), repr(value), error.allowed):
        assert part in str(error)


def test_defaults():
    """Without keywords and variables everything has its default, which its own limits allow."""
    assert resolve_settings({}, {}) == StoreSettings()
    every = {name: field.default for name, field in FIELDS.items()}
    assert resolve_settings(every, {}) == StoreSettings()


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_bounded(name):
    """The limits themselves are allowed; what is beyond, and what is no number, is refused by name."""
    low, high = FIELDS[name].metadata["low"], FIELDS[name].metadata["high"]
    for value in (low, high):
        assert getattr(resolve_settings({name: value}, {}), name) == value
    for value in (low - 1, high + 1, -1, math.nan, math.inf, "10", "", True, [1], b"1", 1j):
        with pytest.raises(SettingError) as caught:
            resolve_settings({name: value}, {})
        assert (caught.value.setting, caught.value.allowed[:8]) == (name, "a number")


def test_lists_are_separated_by_commas():
    """Buckets and dimensions in the environment; what is no number is refused by name."""
    variables = {
        "TRACEKEEP_LATENCY_BUCKETS": "0.1, 0.5,2",
        "TRACEKEEP_SPAN_METRIC_DIMENSIONS": "service.version, http.route",
    }
    resolved = resolve_settings({}, variables)
    assert resolved.latency_buckets == (0.1, 0.5, 2.0)
    assert resolved.span_metric_dimensions == ("service.version", "http.route")
    given = resolve_settings({"latency_buckets": [0.1, 0.5, 2], "span_metric_dimensions": "a,b"}, {})
    assert (given.latency_buckets, given.span_metric_dimensions) == ((0.1, 0.5, 2.0), ("a", "b"))
    for text in ("0.1,x", "0.1,,1", "nan", "inf"):
        with pytest.raises(SettingError) as caught:
            resolve_settings({}, {"TRACEKEEP_LATENCY_BUCKETS": text})
        assert caught.value.setting == "TRACEKEEP_LATENCY_BUCKETS"


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_whole(name):
    """A fraction is refused, as a keyword and in the environment."""
    value = FIELDS[name].default + 0.5
    with pytest.raises(SettingError) as caught:
        resolve_settings({name: value}, {})
    refused(caught.value, name, value)
    variable = f"TRACEKEEP_{name.upper()}"
    with pytest.raises(SettingError) as caught:
        resolve_settings({}, {variable: str(value)})
    assert caught.value.setting == variable


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("writer", "process"),
        ("writer", ""),
        ("writer", 1),
        ("writer", ["thread"]),
        ("durability", "disk"),
        ("durability", "POWER"),
        ("dedicated", "true"),
        ("dedicated", 1),
        ("span_metric_names", "jaeger"),
        ("span_metric_dimensions", ["a", ""]),
        ("span_metric_dimensions", ["a.b", "a_b"]),
        ("span_metric_dimensions", [f"a{number}" for number in range(21)]),
        ("span_metric_dimensions", [1]),
        ("span_metric_dimensions", 1),
        ("latency_buckets", []),
        ("latency_buckets", "1,2"),
        ("latency_buckets", [1, 1]),
        ("latency_buckets", [2, 1]),
        ("latency_buckets", [0, 1]),
        ("latency_buckets", [1, math.inf]),
        ("latency_buckets", [math.nan]),
        ("latency_buckets", [True, 2]),
        ("latency_buckets", ["1"]),
        ("latency_buckets", 1),
        ("http_duration_buckets", list(range(1, 52))),
        ("no_such_setting", 1),
        ("data-dir", "x"),
        ("", None),
    ],
)
def test_wrong_keywords(name, value):
    """Each is refused at once, by name, with what is allowed; also by `open_store`."""
    with pytest.raises(SettingError) as caught:
        resolve_settings({name: value}, {})
    refused(caught.value, name, value)
    with pytest.raises(SettingError):
        open_store("unused", **{name: value})
    assert not Path("unused").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("writer", "threads"),
        ("durability", "high"),
        ("dedicated", "maybe"),
        ("segment_bytes", "8 potatoes"),
        ("segment_bytes", "MiB"),
        ("segment_bytes", "-8MiB"),
        ("segment_bytes", "1e6"),
        ("segment_bytes", "8MiB extra"),
        ("segment_bytes", "63KiB"),
        ("history_max_age", "7 days"),
        ("history_max_age", "1s"),
        ("history_max_age", "nan"),
        ("series_limit", "0"),
        ("series_limit", "²"),
        ("query_timeout", "0"),
    ],
)
def test_wrong_variables(name, text):
    """Each is refused by the variable's name, with its text."""
    variable = f"TRACEKEEP_{name.upper()}"
    with pytest.raises(SettingError) as caught:
        resolve_settings({}, {variable: text})
    assert caught.value.setting == variable
    assert variable in str(caught.value)
    assert caught.value.allowed


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("segment_bytes", "64KiB", 1 << 16),
        ("segment_bytes", "1 mib", 1 << 20),
        ("segment_bytes", "100kB", 100_000),
        ("segment_bytes", "1.5MiB", 3 << 19),
        ("segment_bytes", "  65536  ", 1 << 16),
        ("journal_max_bytes", "2GiB", 2 << 30),
        ("history_max_age", "7d", 604_800.0),
        ("history_max_age", "12h", 43_200.0),
        ("sync_interval", "250ms", 0.25),
        ("query_timeout", "2.5", 2.5),
        ("partition_seconds", "5m", 300.0),
        ("dedicated", "TRUE", True),
        ("dedicated", "off", False),
        ("writer", "none", "none"),
    ],
)
def test_variables_with_units(name, text, value):
    """Sizes and times can be written as people write them."""
    assert getattr(resolve_settings({}, {f"TRACEKEEP_{name.upper()}": text}), name) == value


def test_keywords_come_before_variables():
    """A keyword counts; without one, or with None, the variable; an empty variable is none."""
    environ = {"TRACEKEEP_SERIES_LIMIT": "7", "TRACEKEEP_SLOW_MS": "  "}
    assert resolve_settings({"series_limit": 9}, environ).series_limit == 9
    assert resolve_settings({"series_limit": None}, environ).series_limit == 7
    assert resolve_settings({}, environ).slow_ms == StoreSettings().slow_ms


def test_a_wrong_variable_does_not_matter_beside_a_keyword():
    """It isn't looked at."""
    assert resolve_settings({"series_limit": 9}, {"TRACEKEEP_SERIES_LIMIT": "x"}).series_limit == 9


def test_the_data_directory():
    """The argument, then the variable, then `./tracekeep-data`; always absolute."""
    environ = {"TRACEKEEP_DATA_DIR": "from-env"}
    assert resolve_data_dir("given", environ) == Path.cwd() / "given"
    assert resolve_data_dir(Path("/abs/x"), environ) == Path("/abs/x")
    assert resolve_data_dir(None, environ) == Path.cwd() / "from-env"
    assert (
        resolve_data_dir(None, {})
        == resolve_data_dir(None, {"TRACEKEEP_DATA_DIR": ""})
        == Path.cwd() / "tracekeep-data"
    )


class BytesPath:
    def __fspath__(self):
        return b"bytes"


@pytest.mark.parametrize("value", ["", "a\0b", 5, b"bytes", True, BytesPath()])
def test_wrong_data_directories(value):
    """What is no path is refused by name."""
    with pytest.raises(SettingError) as caught:
        resolve_data_dir(value, {})
    refused(caught.value, "data_dir", value)
