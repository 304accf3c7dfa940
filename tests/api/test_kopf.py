"""A kopf operator as a process of its own: it watches its resources, patches, adopts, holds by finalizers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_cluster import LiveCluster
from tests.support.waiting import until

pytest.importorskip("kopf")

OPERATOR = str(Path(__file__).parent / "testdata" / "operator" / "operator.py")
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: guestbooks.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: guestbooks, singular: guestbook, kind: Guestbook, listKind: GuestbookList, shortNames: [gb]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      additionalPrinterColumns: [{name: Ready, type: integer, jsonPath: .status.ready}]
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [image]
              properties:
                image: {type: string}
                replicas: {type: integer, default: 2, maximum: 9}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
GUESTBOOK = """
apiVersion: example.org/v1
kind: Guestbook
metadata: {name: book}
spec: {image: 'web:1'}
"""


@pytest.fixture(scope="module")
def operator(working: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    working.kubectl("apply", "-f", "-", input=DEFINITION)
    working.kubectl("wait", "crd/guestbooks.example.org", "--for=condition=Established", "--timeout=60s")
    said = tmp_path_factory.mktemp("operator") / "log"
    with said.open("w") as log:
        arguments = (sys.executable, "-m", "kopf", "run", "--all-namespaces", "--standalone", OPERATOR)
        process = working.start(*arguments, stdout=log, stderr=log)
        try:
            yield said
        finally:
            process.terminate()
            process.wait(60)
    working.kubectl("delete", "crd", "guestbooks.example.org")


def get(cluster: LiveCluster, namespace: str, *what: str) -> Any:
    done = cluster.kubectl("-n", namespace, "get", *what, "-o", "json", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def test_an_operator_brings_its_resource_to_life_and_to_its_end(
    working: LiveCluster, shop: str, operator: Path
) -> None:
    working.kubectl("-n", shop, "apply", "-f", "-", input=GUESTBOOK)

    def ready() -> int:
        return int((get(working, shop, "guestbook", "book").get("status") or {}).get("ready", 0))

    until(lambda: ready() == 2, operator.read_text)
    book = get(working, shop, "gb", "book")
    assert book["status"]["create"] == {"deployment": "book"}
    assert book["metadata"]["finalizers"] == ["example.org/farewell"]
    owner = get(working, shop, "deploy", "book")["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("Guestbook", book["metadata"]["uid"])
    assert "READY" in working.kubectl("-n", shop, "get", "gb").stdout

    working.kubectl("-n", shop, "patch", "gb", "book", "--type=merge", "-p", '{"spec":{"replicas":3}}')
    until(lambda: ready() == 3, operator.read_text)
    too_many = '{"spec":{"replicas":10}}'
    refused = working.kubectl("-n", shop, "patch", "gb", "book", "--type=merge", "-p", too_many, check=False)
    assert "spec.replicas" in refused.stderr

    # kubectl waits: for the operator's farewell, then for the end of the finalizer.
    working.kubectl("-n", shop, "delete", "gb", "book")
    assert get(working, shop, "cm", "book-farewell")["data"] == {"said": "goodbye"}
    until(lambda: get(working, shop, "deploy", "book") is None, operator.read_text)
    until(lambda: "the book is open" in working.kubectl("-n", shop, "events").stdout, operator.read_text)
