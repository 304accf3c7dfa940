"""Variables and arguments, out of specs and what they refer to."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.node.env import ConfigError, PodFacts, References, environment, expand

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "shop", "uid": "u", "labels": {"app": "web"}},
    "spec": {"nodeName": "ant", "containers": []},
}
REFERENCES = References(
    {"shop/flags": {"metadata": {"name": "flags"}, "data": {"color": "red", "size": "7"}}},
    {"shop/key": {"metadata": {"name": "key"}, "data": {"token": base64.b64encode(b"s3cret").decode()}}},
    {"status": {"allocatable": {"cpu": "4", "memory": "8Gi"}}},
)
FACTS = PodFacts("10.42.1.2", "192.0.2.7")


def env_of(*variables: dict[str, Any], **container: Any) -> dict[str, str]:
    spec = {"name": "web", "env": list(variables), **container}
    pod = {**POD, "spec": {**POD["spec"], "containers": [spec]}}
    return environment(pod, spec, REFERENCES, FACTS)


def test_variables_refer_to_those_before_them() -> None:
    known = env_of(
        {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(C)-$$(A)"}, {"name": "C", "value": "x"}
    )
    assert known["B"] == "1-$(C)-$(A)"


def test_config_maps_secrets_fields_and_resources_become_values() -> None:
    def source(name: str, **value: Any) -> dict[str, Any]:
        return {"name": name, "valueFrom": value}

    got = env_of(
        source("COLOR", configMapKeyRef={"name": "flags", "key": "color"}),
        source("TOKEN", secretKeyRef={"name": "key", "key": "token"}),
        source("NODE", fieldRef={"fieldPath": "spec.nodeName"}),
        source("IP", fieldRef={"fieldPath": "status.podIP"}),
        source("APP", fieldRef={"fieldPath": "metadata.labels['app']"}),
        source("MEM", resourceFieldRef={"resource": "limits.memory", "divisor": "1Mi"}),
        source("CPU", resourceFieldRef={"resource": "limits.cpu"}),
        source("GONE", configMapKeyRef={"name": "absent", "key": "x", "optional": True}),
        resources={"limits": {"memory": "64Mi"}},
    )
    assert got == {
        "COLOR": "red", "TOKEN": "s3cret", "NODE": "ant", "IP": "10.42.1.2", "APP": "web", "MEM": "64",
        "CPU": "4",
    }  # fmt: skip


def test_env_from_takes_all_keys_and_env_wins_over_it() -> None:
    got = env_of(
        {"name": "P_size", "value": "8"}, envFrom=[{"prefix": "P_", "configMapRef": {"name": "flags"}}]
    )
    assert got == {"P_color": "red", "P_size": "8"}


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"configMapKeyRef": {"name": "absent", "key": "x"}}, 'configmap "absent" not found'),
        ({"secretKeyRef": {"name": "absent", "key": "x"}}, 'secret "absent" not found'),
        (
            {"configMapKeyRef": {"name": "flags", "key": "colour"}},
            "couldn't find key colour in configmap shop/flags (it has: color, size)",
        ),
    ],
)
def test_what_is_missing_is_named(source: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        env_of({"name": "X", "valueFrom": source})
    assert str(caught.value) == sentence


@given(st.text(alphabet="$()AB x", max_size=30))
def test_expansion_never_fails_and_leaves_text_without_references_alone(text: str) -> None:
    assert isinstance(expand(text, {"A": "1"}), str)
    if "$" not in text:
        assert expand(text, {"A": "1"}) == text


def test_every_container_is_told_where_the_api_is_and_may_say_otherwise() -> None:
    references = References(api=("10.43.0.1", 443))
    container = {"name": "c", "env": [{"name": "KUBERNETES_SERVICE_PORT", "value": "6443"}]}
    got = environment(POD, container, references, PodFacts())
    assert (got["KUBERNETES_SERVICE_HOST"], got["KUBERNETES_SERVICE_PORT"]) == ("10.43.0.1", "6443")
    assert got["KUBERNETES_PORT"] == got["KUBERNETES_PORT_443_TCP"] == "tcp://10.43.0.1:443"
