"""The Gateway API's definitions as they are shipped: the API takes them, and they know right from wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml
from click.testing import CliRunner

from gitkube.api.client import Client
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.api.requests import Context, FieldValidation
from gitkube.cli.crds import crds
from gitkube.objects import meta
from gitkube.objects.kinds import CUSTOM_RESOURCE_DEFINITION, Kind
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api

GROUP = "gateway.networking.k8s.io"
PARENT = {"name": "entry"}


def printed() -> list[Object]:
    outcome = CliRunner().invoke(crds, ["gateway-api"], catch_exceptions=False)
    return list(yaml.safe_load_all(outcome.output))


async def strictly_created(api: Api, kind: Kind, obj: Object) -> Object:
    """As `kubectl create` does it: a field that the schema does not know is a mistake."""
    context = Context(ADMIN, field_validation=FieldValidation.STRICT)
    return await api.verbs.create(context, kind, meta.namespace(obj), obj)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with real_api(tmp_path_factory.mktemp("store")) as api:
        for definition in printed():
            await strictly_created(api, CUSTOM_RESOURCE_DEFINITION, definition)
        for _ in range(6000):
            if api.registry.by_resource(GROUP, "v1", "tlsroutes") is not None:
                break
            await asyncio.sleep(0.01)
        yield api


@pytest.fixture
def client(api: Api) -> Client:
    return api.client(ADMIN)


def kind(api: Api, plural: str, version: str = "v1") -> Kind:
    found = api.registry.by_resource(GROUP, version, plural)
    assert found is not None, f"{plural} {version} is not served"
    return found


async def create(api: Api, plural: str, name: str, spec: Any, version: str = "v1") -> Object:
    which = kind(api, plural, version)
    metadata = {"name": name, "namespace": "default"} if which.namespaced else {"name": name}
    obj = {"apiVersion": f"{GROUP}/{version}", "kind": which.kind, "metadata": metadata, "spec": spec}
    return await strictly_created(api, which, obj)


@pytest.mark.parametrize(
    ("plural", "versions"),
    [
        ("gatewayclasses", ("v1", "v1beta1")),
        ("gateways", ("v1", "v1beta1")),
        ("httproutes", ("v1", "v1beta1")),
        ("referencegrants", ("v1", "v1beta1")),
        ("grpcroutes", ("v1",)),
        ("tlsroutes", ("v1",)),
        ("listenersets", ("v1",)),
        ("backendtlspolicies", ("v1",)),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_every_kind_of_the_standard_channel_is_served(
    api: Api, plural: str, versions: tuple[str, ...]
) -> None:
    for version in versions:
        assert "gateway-api" in kind(api, plural, version).categories


@pytest.mark.asyncio(loop_scope="module")
async def test_they_say_which_release_they_are(client: Client) -> None:
    stored = await client.get(CUSTOM_RESOURCE_DEFINITION, f"httproutes.{GROUP}")
    assert stored["metadata"]["annotations"][f"{GROUP}/bundle-version"].startswith("v1.")
    assert stored["metadata"]["annotations"][f"{GROUP}/channel"] == "standard"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_left_out_gets_the_defaults_of_the_gateway_api(api: Api) -> None:
    route = await create(
        api,
        "httproutes",
        "least",
        {"parentRefs": [PARENT], "rules": [{"backendRefs": [{"name": "a", "port": 80}]}]},
    )
    assert route["spec"]["parentRefs"] == [{"name": "entry", "group": GROUP, "kind": "Gateway"}]
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["backendRefs"] == [{"name": "a", "port": 80, "group": "", "kind": "Service", "weight": 1}]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_new_gateway_waits_for_its_controller(api: Api) -> None:
    listener = {"name": "web", "port": 80, "protocol": "HTTP"}
    gateway = await create(api, "gateways", "entry", {"gatewayClassName": "any", "listeners": [listener]})
    assert gateway["spec"]["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "Same"}}
    reasons = [(one["type"], one["reason"]) for one in gateway["status"]["conditions"]]
    assert reasons == [("Accepted", "Pending"), ("Programmed", "Pending")]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_controller_of_a_class_never_changes(api: Api, client: Client) -> None:
    await create(api, "gatewayclasses", "first", {"controllerName": "example.net/one"})
    with pytest.raises(StatusError, match="Value is immutable"):
        patch = {"spec": {"controllerName": "example.net/two"}}
        await client.patch(kind(api, "gatewayclasses"), "first", "", patch)


REDIRECT = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}
BACKENDS = [{"name": "a", "port": 80}]
PREFIX = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
VALID_ROUTES: list[dict[str, Any]] = [
    {"hostnames": ["*.example.org"], "rules": [{"backendRefs": BACKENDS}]},
    {"rules": [{"filters": [REDIRECT]}]},
    {
        "rules": [
            {
                "matches": [{"headers": [{"name": "Version", "value": "2"}], "method": "GET"}],
                "backendRefs": BACKENDS,
            }
        ]
    },
    {"rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "a//b"}}]}]},
    {
        "rules": [
            {"filters": [{"type": "URLRewrite", "urlRewrite": {"path": PREFIX}}], "backendRefs": BACKENDS}
        ]
    },
    {"rules": [{"timeouts": {"request": "10s", "backendRequest": "500ms"}}]},
    {
        "rules": [
            {"filters": [{"type": "CORS", "cors": {"allowOrigins": ["https://*.example.org"], "maxAge": 60}}]}
        ]
    },
    {"parentRefs": [{"name": "entry", "sectionName": "a"}, {"name": "entry", "sectionName": "b"}]},
]
INVALID_ROUTES: list[tuple[dict[str, Any], str]] = [
    ({"hostnames": ["192.0.2.1:80"]}, "spec.hostnames"),
    ({"rules": []}, "should have at least 1 items"),
    ({"rules": [{"backendRefs": [{"name": "a"}]}]}, "Must have port for Service reference"),
    (
        {"rules": [{"backendRefs": BACKENDS, "filters": [REDIRECT]}]},
        "must not be used together with backendRefs",
    ),
    ({"rules": [{"filters": [REDIRECT, REDIRECT]}]}, "RequestRedirect filter cannot be repeated"),
    ({"rules": [{"filters": [{"type": "URLRewrite"}]}]}, "filter.urlRewrite must be specified"),
    ({"rules": [{"filters": [{"type": "Unheard"}]}]}, "Unsupported value"),
    ({"rules": [{"matches": [{"path": {"value": "relative"}}]}]}, "value must be an absolute path"),
    ({"rules": [{"matches": [{"path": {"value": "/a//b"}}]}]}, "must not contain '//'"),
    ({"rules": [{"matches": [{"path": {"value": "/a|b"}}]}]}, "must only contain valid characters"),
    ({"rules": [{"matches": [{"method": "FETCH"}]}]}, "Unsupported value"),
    ({"rules": [{"timeouts": {"request": "1s", "backendRequest": "2s"}}]}, "cannot be longer than request"),
    ({"rules": [{"matches": [{}] * 64}] * 3}, "the total number of matches"),
    ({"parentRefs": [PARENT, PARENT]}, "sectionName must be unique"),
    ({"parentRefs": [PARENT, {**PARENT, "sectionName": "a"}]}, "sectionName must be specified"),
    ({"rules": [{"matchs": []}]}, "unknown field"),
]


@pytest.mark.parametrize("number", range(len(VALID_ROUTES)))
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_valid_route_is_taken(api: Api, number: int, version: str) -> None:
    await create(api, "httproutes", f"valid-{number}-{version}", VALID_ROUTES[number], version)


@pytest.mark.parametrize(("spec", "why"), INVALID_ROUTES, ids=[why for _, why in INVALID_ROUTES])
@pytest.mark.asyncio(loop_scope="module")
async def test_an_invalid_route_is_refused_with_the_reason(api: Api, spec: Any, why: str) -> None:
    with pytest.raises(StatusError) as refused:
        await create(api, "httproutes", "invalid", spec)
    assert why in refused.value.message


LISTENER = {"name": "web", "port": 443, "protocol": "HTTPS"}
CERTIFIED = {"certificateRefs": [{"name": "certificate"}]}
SERVICE = {"group": "", "kind": "Service", "name": "a"}


def gateway(*listeners: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"gatewayClassName": "any", "listeners": list(listeners), **more}


INVALID_OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("gateways", gateway(), "should have at least 1 items"),
    ("gateways", gateway(LISTENER, {**LISTENER, "name": "b"}), "must be unique for each listener"),
    ("gateways", gateway({**LISTENER, "protocol": "TCP", "tls": CERTIFIED}), "tls must not be specified"),
    (
        "gateways",
        gateway({**LISTENER, "tls": {**CERTIFIED, "mode": "Passthrough"}}),
        "tls mode must be Terminate",
    ),
    ("gateways", gateway(LISTENER, addresses=[{"value": "nowhere"}]), "spec.addresses"),
    ("gatewayclasses", {"controllerName": "no-domain"}, "spec.controllerName"),
    ("grpcroutes", {"rules": [{"matches": [{"method": {"type": "Exact"}}]}]}, "One or both of"),
    ("grpcroutes", {"rules": [{"matches": [{"method": {"service": "a/b"}}]}]}, "service must only contain"),
    ("tlsroutes", {"hostnames": ["192.0.2.1"], "rules": [{"backendRefs": BACKENDS}]}, "contain an IP"),
    (
        "referencegrants",
        {"from": [{"group": "", "kind": "Service", "namespace": "a"}], "to": []},
        "spec.to in body should have at least 1 items",
    ),
    (
        "backendtlspolicies",
        {"targetRefs": [SERVICE], "validation": {"hostname": "a.example.org"}},
        "must specify either CACertificateRefs",
    ),
]


@pytest.mark.parametrize(("plural", "spec", "why"), INVALID_OTHERS, ids=[why for _, _, why in INVALID_OTHERS])
@pytest.mark.asyncio(loop_scope="module")
async def test_so_is_every_other_kind(api: Api, plural: str, spec: Any, why: str) -> None:
    with pytest.raises(StatusError) as refused:
        await create(api, plural, "invalid", spec)
    assert why in refused.value.message


@pytest.mark.asyncio(loop_scope="module")
async def test_each_kind_has_a_valid_object(api: Api) -> None:
    tls = {**LISTENER, "tls": CERTIFIED}
    addresses = [{"value": "192.0.2.1"}, {"type": "Hostname", "value": "a.example.org"}]
    await create(api, "gateways", "secure", gateway(tls, addresses=addresses))
    await create(api, "listenersets", "more", {"parentRef": PARENT, "listeners": [tls]})
    matches = [{"method": {"service": "shop.Cart", "method": "Add"}}]
    await create(api, "grpcroutes", "cart", {"rules": [{"matches": matches, "backendRefs": BACKENDS}]})
    passed = {"hostnames": ["*.example.org"], "rules": [{"backendRefs": BACKENDS}]}
    await create(api, "tlsroutes", "pass", passed)
    allowed = {"group": GROUP, "kind": "HTTPRoute", "namespace": "shop"}
    await create(
        api, "referencegrants", "shop", {"from": [allowed], "to": [{"group": "", "kind": "Service"}]}
    )
    authority = {"group": "", "kind": "ConfigMap", "name": "authority"}
    validation = {"hostname": "a.example.org", "caCertificateRefs": [authority]}
    await create(api, "backendtlspolicies", "a", {"targetRefs": [SERVICE], "validation": validation})
