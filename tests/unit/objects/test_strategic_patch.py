"""Strategic merge patch on real schemas: what each directive does, and what never happens."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.objects.kinds import DEPLOYMENT
from gitkube.objects.patch.errors import PatchError
from gitkube.objects.patch.strategic import apply_strategic_patch
from gitkube.objects.schema import schema_of

SCHEMA = schema_of(DEPLOYMENT)


def deployment(**pod_spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"template": {"spec": pod_spec}}}


def patched(document: dict[str, Any], **pod_spec: Any) -> dict[str, Any]:
    result = apply_strategic_patch(document, {"spec": {"template": {"spec": pod_spec}}}, SCHEMA)
    found: dict[str, Any] = result["spec"]["template"]["spec"]
    return found


TWO = deployment(containers=[{"name": "app", "image": "app:1"}, {"name": "side", "image": "side:1"}])


def names(spec: dict[str, Any]) -> list[str]:
    return [container["name"] for container in spec["containers"]]


def test_containers_merge_by_their_name() -> None:
    spec = patched(TWO, containers=[{"name": "side", "image": "side:2"}])
    assert spec["containers"] == [{"name": "app", "image": "app:1"}, {"name": "side", "image": "side:2"}]


def test_a_new_item_comes_before_those_the_patch_does_not_name() -> None:
    assert names(patched(TWO, containers=[{"name": "new"}])) == ["new", "app", "side"]


def test_the_order_can_be_set() -> None:
    order = [{"name": "side"}, {"name": "app"}]
    assert names(patched(TWO, **{"$setElementOrder/containers": order})) == ["side", "app"]


def test_an_item_is_deleted_by_its_key() -> None:
    assert names(patched(TWO, containers=[{"name": "app", "$patch": "delete"}])) == ["side"]


def test_a_list_is_replaced_by_an_item_that_says_so() -> None:
    spec = patched(TWO, containers=[{"$patch": "replace"}, {"name": "only"}])
    assert names(spec) == ["only"]


def test_retain_keys_drops_what_it_does_not_name() -> None:
    before = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert apply_strategic_patch(before, patch, SCHEMA) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_finalizers_are_a_set_that_grows_and_shrinks() -> None:
    before = {"metadata": {"finalizers": ["a", "b"]}}
    grown = apply_strategic_patch(before, {"metadata": {"finalizers": ["c", "a"]}}, SCHEMA)
    assert sorted(grown["metadata"]["finalizers"]) == ["a", "b", "c"]
    shrink = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert apply_strategic_patch(before, shrink, SCHEMA)["metadata"]["finalizers"] == ["b"]


def test_a_list_without_a_merge_key_is_replaced() -> None:
    before = deployment(tolerations=[{"key": "a"}])
    assert patched(before, tolerations=[{"key": "b"}])["tolerations"] == [{"key": "b"}]


@pytest.mark.parametrize(
    ("pod_spec", "words"),
    [
        ({"containers": [{"image": "x"}]}, "lacks the merge key 'name'"),
        ({"containers": ["app"]}, "all be objects, or all be primitives"),
        ({"$patch": "forget"}, "unknown $patch 'forget'"),
        ({"$setElementOrder/containers": [{"name": "app"}], "containers": [{"name": "side"}]}, "order"),
        ({"$deleteFromPrimitiveList/containers": ["app"]}, "primitives only"),
    ],
)
def test_a_wrong_directive_is_named_with_its_place(pod_spec: dict[str, Any], words: str) -> None:
    with pytest.raises(PatchError) as caught:
        patched(TWO, **pod_spec)
    assert words in caught.value.message
    assert ".spec.template.spec" in caught.value.message


containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abcd")},
        optional={"image": st.sampled_from(["x", "y"]), "tty": st.booleans()},
    ),
    max_size=4,
    unique_by=lambda container: container["name"],
)


@given(containers, containers)
def test_merging_lists_keeps_every_item_once_and_is_idempotent(live: Any, patch: Any) -> None:
    document = deployment(containers=live)
    kept = copy.deepcopy(document)
    once = patched(document, containers=patch)
    assert document == kept
    assert sorted(names(once)) == sorted({item["name"] for item in [*live, *patch]})
    assert patched({"spec": {"template": {"spec": once}}}, containers=patch) == once


@given(containers, containers)
def test_the_order_of_the_patch_is_the_order_of_its_items(live: Any, patch: Any) -> None:
    result = names(patched(deployment(containers=live), containers=patch))
    ours = [item["name"] for item in patch]
    assert [name for name in result if name in ours] == ours


words = st.sampled_from(
    ["containers", "nodeSelector", "$patch", "$retainKeys", "$setElementOrder/containers", "x"]
)
maps_only = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["replace", "delete", "a"]),
    lambda inner: st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def _directives(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return []
    below = [found for item in value.values() for found in _directives(item)]
    return [key for key in value if key.startswith("$")] + below


@given(st.dictionaries(words, maps_only, max_size=3))
def test_no_directive_reaches_the_result(pod_spec: dict[str, Any]) -> None:
    try:
        result = apply_strategic_patch(TWO, {"spec": {"template": {"spec": pod_spec}}}, SCHEMA)
    except PatchError as error:
        assert error.message
    else:
        assert _directives(result) == []
