"""A plain HTTP client on the standard library: one request, one connection, the whole answer."""

import http.client
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict
    body: bytes

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


def send(connection, method, path, body=None, headers=None):
    """Send a request on an open connection; an answer cut short raises like a connection that is refused."""
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{method} {path}: {error!r}") from error
    return Response(response.status, {k.lower(): v for k, v in response.getheaders()}, content)


def request(method, port, path, *, body=None, headers=None, timeout=10.0):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        return send(connection, method, path, body, headers)
    finally:
        connection.close()


def get(port, path, **options):
    return request("GET", port, path, **options)


def get_json(port, path, **options):
    response = get(port, path, **options)
    assert response.status == 200, f"{path}: {response.status} {response.body[:500]!r}"
    return response.json
