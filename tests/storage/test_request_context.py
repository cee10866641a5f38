import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage.request_context import REDACTED, context_of, path_parameters

REQUEST = {
    "http.request.method": "GET",
    "http.route": "/shops/{shop}/items/{id:int}",
    "http.response.status_code": 500,
    "error.type": "KeyError",
    "url.scheme": "https",
    "url.path": "/shops/north/items/7",
    "url.query": "page=2&q=a%20b&q=c",
    "server.address": "shop.example",
    "server.port": 8443,
    "user_agent.original": "curl",
}


def test_what_a_request_tells():
    """Method, route, URL, path and query parameters, status and error; nothing else."""
    assert context_of(REQUEST) == {
        "http.request.method": "GET",
        "http.route": "/shops/{shop}/items/{id:int}",
        "http.response.status_code": 500,
        "error.type": "KeyError",
        "url.path": "/shops/north/items/7",
        "url.query": "page=2&q=a%20b&q=c",
        "url.path_parameters": {"shop": "north", "id": "7"},
        "url.query_parameters": {"page": "2", "q": "c"},
        "url.full": "https://shop.example:8443/shops/north/items/7?page=2&q=a%20b&q=c",
    }
    assert context_of({}) == {}


@pytest.mark.parametrize(
    "name",
    ["password", "access_token", "API-Key", "apikey", "Authorization", "sessionid", "X-Amz-Signature"],
)
def test_credentials_are_redacted(name):
    """In the query, its parameters and the URL; what stands beside them stays."""
    context = context_of(REQUEST | {"url.query": f"{name}=geheim&page=2"})
    assert "geheim" not in str(context)
    assert context["url.query_parameters"] == {name: REDACTED, "page": "2"}
    assert context["url.full"].endswith(f"?{name}={REDACTED}&page=2")


def test_a_url_that_is_given_is_told_without_its_credentials():
    """User and password before the host, and those in the query."""
    url = "https://me:geheim@shop.example/x?token=geheim&a=1"
    context = context_of({"url.full": url, "url.query": "token=geheim&a=1"})
    assert context["url.full"] == f"https://{REDACTED}@shop.example/x?token={REDACTED}&a=1"
    assert "geheim" not in str(context_of({"url.full": url}))


@pytest.mark.parametrize(
    ("route", "path", "found"),
    [
        ("/a/{b}", "/a/1", {"b": "1"}),
        ("/a/{b:path}", "/a/1/2/3", {"b": "1/2/3"}),
        ("/a/{b:path}/raw", "/a/1/2/raw", {"b": "1/2"}),
        ("/a/<int:b>/<c>", "/a/1/x", {"b": "1", "c": "x"}),
        ("/a/{b}.json", "/a/1.json", {"b": "1"}),
        ("/a/{b}", "/c/1", {}),
        ("/a/{b}", "/a", {}),
        ("/a/{b}", "/a/1/2", {}),
        ("/a", "/a", {}),
        ("", "/a", {}),
    ],
)
def test_path_parameters(route, path, found):
    """What a template's parameters stand for; nothing where it isn't the path's template."""
    assert path_parameters(route, path) == found


_ODD = st.one_of(st.text(max_size=30), st.integers(), st.none(), st.lists(st.text(max_size=3)))


@given(st.dictionaries(st.sampled_from([*REQUEST, "url.full"]), _ODD))
def test_odd_values_are_passed_over(attributes):
    """Whatever a service records as its request, there is a context."""
    assert isinstance(context_of(attributes), dict)
