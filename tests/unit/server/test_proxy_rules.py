"""Whom a proxied name means, and what is changed on the way there and back."""

from __future__ import annotations

import random

import pytest

from gitkube.api.errors import StatusError
from gitkube.objects.kinds import SERVICE
from gitkube.objects.types import Object
from gitkube.server.paths import Target, parse_path
from gitkube.server.proxy_rules import (
    Backend,
    Named,
    led_back,
    onward_headers,
    pod_backend,
    service_backend,
    split_name,
)

POD: Object = {
    "metadata": {"name": "p", "namespace": "n"},
    "spec": {
        "containers": [{"name": "a"}, {"name": "b", "ports": [{"name": "http", "containerPort": 8080}]}]
    },
    "status": {"podIP": "10.42.0.9"},
}
SERVICE_WEB: Object = {
    "metadata": {"name": "web", "namespace": "n"},
    "spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]},
}


def a_slice(*pods: str, ready: bool = True) -> Object:
    return {
        "metadata": {"name": "web-1", "namespace": "n"},
        "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}],
        "endpoints": [
            {"targetRef": {"kind": "Pod", "name": pod, "namespace": "n"}, "conditions": {"ready": ready}}
            for pod in pods
        ],
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("web", Named("http", "web", "")),
        ("web:80", Named("http", "web", "80")),
        ("web:http", Named("http", "web", "http")),
        ("https:web:", Named("https", "web", "")),
        ("https:web:443", Named("https", "web", "443")),
        (":web:443", Named("http", "web", "443")),
    ],
)
def test_a_name_has_a_scheme_and_a_port(text: str, named: Named) -> None:
    assert split_name(text, "service") == named


@pytest.mark.parametrize("text", ["a:b:c:d", "ftp:web:80", ":80", "http::80"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(StatusError, match=f'invalid service request "{text}"') as raised:
        split_name(text, "service")
    assert raised.value.code == 400


@pytest.mark.parametrize(("port", "number"), [("", 8080), ("http", 8080), ("1234", 1234)])
def test_a_pods_port_is_the_first_one_or_the_one_that_is_named(port: str, number: int) -> None:
    assert pod_backend(POD, Named("http", "p", port)) == Backend("n", "p", number)


@pytest.mark.parametrize(("scheme", "number"), [("http", 80), ("https", 443)])
def test_a_pod_that_declares_no_port_is_asked_on_the_schemes(scheme: str, number: int) -> None:
    bare = {**POD, "spec": {"containers": [{"name": "a"}]}}
    assert pod_backend(bare, Named(scheme, "p", "")).port == number


@pytest.mark.parametrize("address", ["", "127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "no address"])
def test_a_pod_without_an_address_of_its_own_is_not_proxied(address: str) -> None:
    with pytest.raises(StatusError, match="address not allowed"):
        pod_backend({**POD, "status": {"podIP": address}}, Named("http", "p", "80"))


@pytest.mark.parametrize("port", ["nothing", "0", "65536"])
def test_a_port_that_a_pod_has_not_is_refused(port: str) -> None:
    with pytest.raises(StatusError, match=f'has no port "{port}"'):
        pod_backend(POD, Named("http", "p", port))


@pytest.mark.parametrize(("port", "number"), [("", 8080), ("http", 8080), ("80", 8080), ("81", 9090)])
def test_a_service_is_one_of_its_ready_pods(port: str, number: int) -> None:
    slices = [a_slice("gone", ready=False), a_slice("one")]
    found = service_backend(SERVICE_WEB, slices, Named("http", "web", port), random.Random(1))
    assert found == Backend("n", "one", number)


def test_all_ready_pods_of_a_service_get_their_share() -> None:
    rng, named = random.Random(1), Named("http", "web", "")
    found = {service_backend(SERVICE_WEB, [a_slice("one", "two")], named, rng).pod for _ in range(50)}
    assert found == {"one", "two"}


@pytest.mark.parametrize(
    ("slices", "port", "code"),
    [
        ([], "", 404),
        ([a_slice("one")], "82", 503),
        ([a_slice("one")], "nothing", 503),
        ([a_slice()], "", 503),
        ([a_slice("one", ready=False)], "", 503),
    ],
)
def test_a_service_that_nobody_answers_for_says_so(slices: list[Object], port: str, code: int) -> None:
    with pytest.raises(StatusError) as raised:
        service_backend(SERVICE_WEB, slices, Named("http", "web", port), random.Random(1))
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/a?b=c#d", "/prefix/a?b=c#d"),
        ("http://10.42.0.9:8080/a", "/prefix/a"),
        ("/prefix/a", "/prefix/a"),
        ("a/b", "a/b"),
        ("https://example.org/a", "https://example.org/a"),
        ("//example.org/a", "//example.org/a"),
    ],
)
def test_a_redirect_stays_within_the_proxy(location: str, shown: str) -> None:
    assert led_back(location, "/prefix", "10.42.0.9:8080") == shown


def test_headers_of_one_connection_and_of_the_asker_end_here() -> None:
    given = {
        "Host": "api", "Connection": "keep-alive, X-Mine", "X-Mine": "1", "TE": "trailers", "Upgrade": "h2c",
        "Authorization": "Bearer secret", "Impersonate-User": "ada", "Accept": "text/html", "X-Own": "2",
    }  # fmt: skip
    kept = onward_headers(given, host="api:6443", uri="/api/v1/x", scheme="https")
    assert dict(kept) == {
        "Accept": "text/html",
        "X-Own": "2",
        "X-Forwarded-Host": "api:6443",
        "X-Forwarded-Uri": "/api/v1/x",
        "X-Forwarded-Proto": "https",
    }


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/api/v1/namespaces/n/services/http:web:80/proxy", ""),
        ("/api/v1/namespaces/n/services/http:web:80/proxy/", "/"),
        ("/api/v1/namespaces/n/services/http:web:80/proxy/a//b/../%2e%2f/", "/a//b/../%2e%2f/"),
    ],
)
def test_the_path_behind_a_proxy_is_left_as_it_is(path: str, rest: str) -> None:
    assert parse_path(path) == Target(SERVICE, "n", "http:web:80", "proxy", rest=rest)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/n/configmaps/c/proxy/x",
        "/api/v1/namespaces/../pods/p/proxy/x",
        "/api/v1/namespaces/n/pods/%2e%2e/proxy/x",
        "/api/v1/namespaces/n/pods/p/exec/proxy",
    ],
)
def test_no_other_path_gets_longer_by_it(path: str) -> None:
    with pytest.raises(StatusError):
        parse_path(path)
