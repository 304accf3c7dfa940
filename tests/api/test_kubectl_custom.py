"""The real kubectl and a kind of one's own: defined, explained, used, scaled and taken away again."""

from __future__ import annotations

import json

import pytest

from tests.support.live_cluster import LiveCluster

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gardens.plants.example.org}
spec:
  group: plants.example.org
  scope: Namespaced
  names: {plural: gardens, singular: garden, kind: Garden, shortNames: [gd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.beds, statusReplicasPath: .status.beds}
    additionalPrinterColumns:
    - {name: Beds, type: integer, jsonPath: .spec.beds}
    - {name: Soil, type: string, jsonPath: .spec.soil, priority: 1}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    selectableFields:
    - jsonPath: .spec.soil
    schema:
      openAPIV3Schema:
        description: A piece of land with beds.
        type: object
        properties:
          spec:
            type: object
            required: [beds]
            properties:
              beds: {type: integer, minimum: 0, maximum: 99, description: How many beds it has.}
              soil: {type: string, enum: [loam, clay], default: loam}
              plants:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, row: {type: integer}}
          status:
            type: object
            x-kubernetes-preserve-unknown-fields: true
"""
GARDEN = """
apiVersion: plants.example.org/v1
kind: Garden
metadata: {name: south}
spec:
  beds: 3
  plants:
  - {name: leek, row: 1}
"""


@pytest.fixture
def gardens(cluster: LiveCluster, namespace: str) -> str:
    """A namespace in a cluster that knows gardens."""
    cluster.kubectl("apply", "-f", "-", input=DEFINITION)
    cluster.kubectl("wait", "--for=condition=Established", "crd/gardens.plants.example.org", "--timeout=30s")
    return namespace


def test_a_kind_is_listed_and_explained_once_it_is_defined(cluster: LiveCluster, gardens: str) -> None:
    listed = cluster.kubectl("api-resources", "--api-group=plants.example.org").stdout
    assert "gd" in listed and "Garden" in listed
    said = cluster.kubectl("explain", "garden.spec").stdout
    assert "How many beds it has." in said and "-required-" in said
    assert "A piece of land with beds." in cluster.kubectl("explain", "gd").stdout
    by_v2 = cluster.kubectl("explain", "garden.spec.plants", "--output=plaintext-openapiv2").stdout
    assert "row\t<integer>" in by_v2 and "FIELDS:" in by_v2


def test_objects_are_made_with_defaults_shown_in_columns_and_selected(
    cluster: LiveCluster, gardens: str
) -> None:
    cluster.kubectl("-n", gardens, "apply", "-f", "-", input=GARDEN)
    head, row = cluster.kubectl("-n", gardens, "get", "gd").stdout.splitlines()
    assert head.split() == ["NAME", "BEDS", "READY"]
    assert row.split() == ["south", "3"]
    assert "SOIL" in cluster.kubectl("-n", gardens, "get", "gd", "-o", "wide").stdout
    assert "garden.plants.example.org/south" in cluster.kubectl("-n", gardens, "get", "all").stdout
    soil = cluster.kubectl("-n", gardens, "get", "gd", "--field-selector=spec.soil=loam", "-o", "name").stdout
    assert soil.strip() == "garden.plants.example.org/south"
    clay = cluster.kubectl("-n", gardens, "get", "gd", "--field-selector=spec.soil=clay", "-o", "name").stdout
    assert clay == ""


def test_what_the_schema_refuses_is_named(cluster: LiveCluster, gardens: str) -> None:
    wrong = GARDEN.replace("beds: 3", "beds: 100")
    refused = cluster.kubectl("-n", gardens, "create", "-f", "-", input=wrong, check=False)
    assert refused.returncode == 1
    assert "spec.beds in body should be less than or equal to 99" in refused.stderr
    unknown = GARDEN.replace("beds: 3", "beds: 3\n  colour: green")
    refused = cluster.kubectl("-n", gardens, "apply", "-f", "-", input=unknown, check=False)
    assert 'unknown field "spec.colour"' in refused.stderr


def test_applies_merge_a_list_by_its_keys(cluster: LiveCluster, gardens: str) -> None:
    apply = ("-n", gardens, "apply", "--server-side", "-f", "-")
    cluster.kubectl(*apply, "--field-manager=one", input=GARDEN)
    other = GARDEN.replace("{name: leek, row: 1}", "{name: pea, row: 2}")
    cluster.kubectl(*apply, "--field-manager=two", input=other)
    shown = json.loads(cluster.kubectl("-n", gardens, "get", "gd", "south", "-o", "json").stdout)
    assert [plant["name"] for plant in shown["spec"]["plants"]] == ["leek", "pea"]
    same = cluster.kubectl(
        *("-n", gardens, "diff", "--server-side", "--field-manager=one", "-f", "-"), input=GARDEN, check=False
    )
    assert same.returncode == 0


def test_status_and_scale_are_doors_of_their_own(cluster: LiveCluster, gardens: str) -> None:
    cluster.kubectl("-n", gardens, "apply", "-f", "-", input=GARDEN)
    patch = '{"spec":{"beds":9},"status":{"beds":3,"conditions":[{"type":"Ready","status":"True"}]}}'
    cluster.kubectl(
        "-n", gardens, "patch", "gd", "south", "--subresource=status", "--type=merge", "-p", patch
    )
    assert cluster.kubectl("-n", gardens, "get", "gd", "south", "--no-headers").stdout.split() == [
        "south",
        "3",
        "True",
    ]
    cluster.kubectl("-n", gardens, "scale", "gd/south", "--replicas=7")
    shown = json.loads(cluster.kubectl("-n", gardens, "get", "gd", "south", "-o", "json").stdout)
    assert (shown["spec"]["beds"], shown["metadata"]["generation"]) == (7, 2)


def test_with_its_definition_a_kind_and_all_its_objects_go(cluster: LiveCluster, gardens: str) -> None:
    cluster.kubectl("-n", gardens, "apply", "-f", "-", input=GARDEN)
    cluster.kubectl("delete", "crd", "gardens.plants.example.org", "--timeout=60s")
    gone = cluster.kubectl("-n", gardens, "get", "gardens.plants.example.org", check=False)
    assert gone.returncode == 1
    assert "the server doesn't have a resource type" in gone.stderr
    cluster.kubectl("apply", "-f", "-", input=DEFINITION)
    cluster.kubectl("wait", "--for=condition=Established", "crd/gardens.plants.example.org", "--timeout=30s")
    assert cluster.kubectl("-n", gardens, "get", "gd", "-o", "name").stdout == ""
