"""The real Traefik: it watches Ingresses, Gateways and Services, routes live traffic, and writes status back.

Its informers are client-go's, which stream lists; its writes of status are protobuf. The Gateway API's
definitions are the ones that gitkube ships.
"""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.echo_server import start_echo
from tests.support.live_cluster import LiveCluster
from tests.support.ports import free_port
from tests.support.waiting import until

ROUTE = """
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  ports: [{{name: http, port: 80, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web}}
spec:
  ingressClassName: traefik
  rules:
    - host: {host}
      http:
        paths:
          - {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{name: http}}}}}}}}
"""
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: entry}}
spec:
  gatewayClassName: traefik
  listeners: [{{name: web, port: {entry}, protocol: HTTP, allowedRoutes: {{namespaces: {{from: Same}}}}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web}}
spec:
  parentRefs: [{{name: entry, group: gateway.networking.k8s.io, kind: Gateway}}]
  hostnames: [{host}]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: /}}}}]
      backendRefs: [{{name: web, port: 80, kind: Service, group: '', weight: 1}}]
"""
GATEWAY_CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: traefik}
spec: {controllerName: traefik.io/gateway-controller}
"""
CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: traefik}
spec: {controller: traefik.io/ingress-controller}
"""


class Traefik:
    """Traefik's entry, and what it said so far."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log

    def get(self, host: str, path: str = "/hello") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:  # it is about to start, or to change its mind
            return 0, repr(error).encode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def behind(working: LiveCluster) -> Iterator[int]:
    runner, port = working.run(start_echo())
    yield port
    working.run(runner.cleanup())


@pytest.fixture(scope="module")
def traefik(working: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traefik]:
    program = tools.needed(tools.traefik_path(), "Traefik")
    definitions = working.call(sys.executable, "-m", "gitkube.cli.main", "crds", "gateway-api").stdout
    working.kubectl("apply", "-f", "-", input=definitions)
    working.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
    working.kubectl("apply", "-f", "-", input=f"{CLASS}---{GATEWAY_CLASS}")
    port, log = free_port(), tmp_path_factory.mktemp("traefik") / "log"
    arguments = (
        f"--entrypoints.web.address=127.0.0.1:{port}",
        "--providers.kubernetesingress=true",
        "--providers.kubernetesingress.ingressendpoint.ip=192.0.2.1",
        "--providers.kubernetesgateway=true",
        "--providers.kubernetesgateway.statusaddress.ip=192.0.2.1",
        "--providers.providersthrottleduration=100ms",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    )
    with log.open("w") as file:
        process = working.start(program, *arguments, stdout=file, stderr=file)
        try:
            yield Traefik(port, log)
        finally:
            process.terminate()
            process.wait(60)
    working.kubectl("delete", "-f", "-", input=definitions)


def test_traffic_follows_an_ingress(working: LiveCluster, shop: str, traefik: Traefik, behind: int) -> None:
    host = f"{shop}.example.org"
    working.kubectl("-n", shop, "apply", "-f", "-", input=ROUTE.format(host=host, port=behind))
    until(lambda: traefik.get(host)[0] == 200, traefik.log.read_text)
    assert json.loads(traefik.get(host)[1])["path"] == "/hello"
    assert traefik.get("other.example.org")[0] == 404

    def address() -> str:
        path = "jsonpath={.status.loadBalancer.ingress[*].ip}"
        return working.kubectl("-n", shop, "get", "ingress", "web", "-o", path).stdout

    until(lambda: address() == "192.0.2.1", traefik.log.read_text)
    moved = f"moved-{host}"
    working.kubectl("-n", shop, "apply", "-f", "-", input=ROUTE.format(host=moved, port=behind))
    until(lambda: traefik.get(moved)[0] == 200, traefik.log.read_text)
    until(lambda: traefik.get(host)[0] == 404, traefik.log.read_text)
    working.kubectl("-n", shop, "delete", "ingress", "web")
    until(lambda: traefik.get(moved)[0] == 404, traefik.log.read_text)


def test_traffic_follows_a_gateway_and_its_route(
    working: LiveCluster, shop: str, traefik: Traefik, behind: int
) -> None:
    host = f"{shop}.example.net"
    service = ROUTE.format(host=f"{shop}.example.org", port=behind)
    working.kubectl("-n", shop, "apply", "-f", "-", input=service)
    gateway = GATEWAY.format(entry=traefik.port, host=host)
    working.kubectl("-n", shop, "apply", "-f", "-", input=gateway)
    until(lambda: traefik.get(host)[0] == 200, traefik.log.read_text)

    def condition(what: str, path: str) -> str:
        return working.kubectl("-n", shop, "get", what, "-o", f"jsonpath={path}").stdout

    accepted = '{.status.conditions[?(@.type=="Accepted")].status}'
    until(lambda: condition("gateway/entry", accepted) == "True", traefik.log.read_text)
    assert condition("gateway/entry", "{.status.addresses[*].value}") == "192.0.2.1"
    of_route = '{.status.parents[*].conditions[?(@.type=="Accepted")].status}'
    until(lambda: condition("httproute/web", of_route) == "True", traefik.log.read_text)
    working.kubectl("-n", shop, "delete", "httproute", "web")
    until(lambda: traefik.get(host)[0] == 404, traefik.log.read_text)
