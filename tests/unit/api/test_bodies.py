"""Bodies that are about something else than the request: nothing is bound, evicted or answered by mistake."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.api.errors import StatusError
from gitkube.api.subresources import bind, eviction_options

POD_STORED = {"metadata": {"name": "web", "uid": "u", "resourceVersion": "7"}, "spec": {}}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": {}},
        {"metadata": {"name": "db"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}},
        {"apiVersion": "apps/v1", "kind": "Eviction", "metadata": {"name": "web"}},
    ],
)
def test_a_pod_is_evicted_only_by_an_eviction_that_names_it(body: dict[str, Any]) -> None:
    with pytest.raises(StatusError) as refused:
        eviction_options(body, "default", "web")
    assert refused.value.code == 400


@pytest.mark.parametrize("version", ["policy/v1", "policy/v1beta1"])
def test_an_eviction_says_how_the_pod_goes(version: str) -> None:
    body = {"apiVersion": version, "kind": "Eviction", "metadata": {"name": "web"}}
    assert eviction_options({**body, "deleteOptions": {"gracePeriodSeconds": 3}}, "default", "web") == (
        eviction_options({"metadata": {"name": "web"}, "deleteOptions": {"gracePeriodSeconds": 3}}, "", "web")
    )


@pytest.mark.parametrize("stale", [{"uid": "other"}, {"resourceVersion": "6"}])
def test_a_binding_of_a_pod_that_has_changed_is_a_conflict(stale: dict[str, str]) -> None:
    binding = {"metadata": {"name": "web"}, "target": {"name": "ant"}}
    assert bind(POD_STORED, binding, "now")["spec"]["nodeName"] == "ant"
    with pytest.raises(StatusError, match="Precondition failed") as refused:
        bind(POD_STORED, {**binding, "metadata": {"name": "web", **stale}}, "now")
    assert refused.value.code == 409
