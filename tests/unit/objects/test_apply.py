"""Server-side apply: who owns what, told as stories, and the laws of field sets."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.objects.custom.schema import root_schema
from gitkube.objects.kinds import CONFIG_MAP, DEPLOYMENT, Kind
from gitkube.objects.normalise import normalise
from gitkube.objects.patch import fieldset
from gitkube.objects.patch.apply import server_side_apply, track_update
from gitkube.objects.patch.errors import ConflictError, PatchError
from gitkube.objects.patch.managers import MAX_UPDATE_ENTRIES, read_managers
from gitkube.objects.schema import schema_of

NOW = "2026-01-31T09:30:00Z"
LATER = "2026-01-31T09:30:05Z"


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def applied(
    live: Any, obj: Any, manager: str, *, kind: Kind = CONFIG_MAP, force: bool = False
) -> dict[str, Any]:
    before = copy.deepcopy(live)
    result = server_side_apply(live, obj, schema_of(kind), kind=kind, manager=manager, now=NOW, force=force)
    assert live == before
    return result


def updated(live: Any, obj: Any, manager: str) -> dict[str, Any]:
    entries = track_update(live, obj, schema_of(CONFIG_MAP), kind=CONFIG_MAP, manager=manager, now=NOW)
    return {**obj, "metadata": {**obj["metadata"], "managedFields": entries}}


def owners(obj: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for identity, entry in (read_managers(obj) or {}).items():
        paths = [fieldset.path_text(path) for path in fieldset.members(entry.fields)]
        found[f"{identity.manager}/{identity.operation}"] = paths
    return found


def test_an_applier_owns_just_what_it_says() -> None:
    live = applied(None, config(x="1"), "alice")
    assert owners(live) == {"alice/Apply": [".data.x"]}


def test_what_an_applier_gives_up_goes_and_the_rest_stays() -> None:
    live = applied(None, config(x="1", y="2"), "alice")
    live = applied(live, config(z="3"), "bob")
    live = applied(live, config(x="1"), "alice")
    assert live["data"] == {"x": "1", "z": "3"}


def test_a_value_that_two_share_stays_until_both_gave_it_up() -> None:
    live = applied(applied(None, config(x="1"), "alice"), config(x="1"), "bob")
    live = applied(live, config(k="v"), "alice")
    assert live["data"]["x"] == "1"
    live = applied(live, config(l="w"), "bob")
    assert "x" not in live["data"]


def test_changing_what_another_owns_is_a_conflict_that_names_both() -> None:
    live = applied(None, config(x="1"), "alice")
    with pytest.raises(ConflictError) as caught:
        applied(live, config(x="2"), "bob")
    (conflict,) = caught.value.conflicts
    assert (conflict.manager, conflict.field) == ('"alice"', ".data.x")


@pytest.mark.parametrize("kind", [{}, {"type": "object"}])
def test_in_what_a_definition_leaves_open_two_may_own_fields_side_by_side(kind: dict[str, Any]) -> None:
    values = {**kind, "x-kubernetes-preserve-unknown-fields": True}
    spec = {"type": "object", "properties": {"values": values}}
    schema = root_schema({"type": "object", "properties": {"spec": spec}})

    def release(live: Any, values: Any, manager: str) -> dict[str, Any]:
        obj = {**config(), "spec": {"values": values}}
        return server_side_apply(live, obj, schema, kind=CONFIG_MAP, manager=manager, now=NOW)

    live = release(None, {"image": {"tag": "1"}, "hosts": ["a"]}, "flux")
    live = release(live, {"image": {"pullPolicy": "Never"}}, "ada")
    assert live["spec"]["values"] == {"image": {"tag": "1", "pullPolicy": "Never"}, "hosts": ["a"]}
    with pytest.raises(ConflictError) as caught:
        release(live, {"image": {"tag": "2"}, "hosts": ["b"]}, "ada")
    assert [one.field for one in caught.value.conflicts] == [".spec.values.hosts", ".spec.values.image.tag"]


def test_force_takes_the_field_over() -> None:
    live = applied(applied(None, config(x="1"), "alice"), config(x="2"), "bob", force=True)
    assert live["data"] == {"x": "2"}
    assert owners(live) == {"bob/Apply": [".data.x"]}


def test_an_update_takes_the_field_from_its_applier() -> None:
    live = applied(None, config(x="1", y="1"), "alice")
    live = updated(live, {**live, "data": {"x": "2", "y": "1"}}, "editor")
    assert owners(live) == {"alice/Apply": [".data.y"], "editor/Update": [".data.x"]}
    with pytest.raises(ConflictError):
        applied(live, config(x="1", y="1"), "alice")


def test_identity_is_owned_by_nobody_and_never_pruned() -> None:
    labelled = {**config(), "metadata": {"name": "a", "namespace": "n", "labels": {"l": "1"}}}
    live = applied(None, labelled, "alice")
    live = {**live, "metadata": {**live["metadata"], "uid": "u", "creationTimestamp": NOW}}
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    after = applied(live, bare, "alice")
    assert after["metadata"] == {"name": "a", "namespace": "n", "uid": "u", "creationTimestamp": NOW}


def test_an_object_that_nobody_tracked_belongs_to_before_first_apply() -> None:
    with pytest.raises(ConflictError) as caught:
        applied(config(x="1"), config(x="2"), "alice")
    assert "before-first-apply" in caught.value.conflicts[0].manager


def test_ten_updaters_are_kept_and_older_ones_folded() -> None:
    live = updated(None, config(k0="1"), "m0")
    for number in range(1, MAX_UPDATE_ENTRIES + 4):
        after = {**live, "data": {**live["data"], f"k{number}": "1"}}
        entries = track_update(
            live, after, schema_of(CONFIG_MAP), kind=CONFIG_MAP,
            manager=f"m{number}", now=f"2026-01-31T09:30:{number:02}Z",
        )  # fmt: skip
        live = {**after, "metadata": {**after["metadata"], "managedFields": entries}}
    assert len(live["metadata"]["managedFields"]) == MAX_UPDATE_ENTRIES
    assert ".data.k0" in owners(live)["ancient-changes/Update"]


def deployment(*containers: dict[str, Any]) -> dict[str, Any]:
    spec = {"template": {"spec": {"containers": list(containers)}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}


def test_containers_are_owned_one_by_one() -> None:
    live = applied(None, deployment({"name": "app", "image": "app:1"}), "alice", kind=DEPLOYMENT)
    live = applied(live, deployment({"name": "side", "image": "side:1"}), "bob", kind=DEPLOYMENT)
    names = [container["name"] for container in live["spec"]["template"]["spec"]["containers"]]
    assert names == ["app", "side"]
    live = applied(live, deployment({"name": "other", "image": "x"}), "bob", kind=DEPLOYMENT)
    names = [container["name"] for container in live["spec"]["template"]["spec"]["containers"]]
    assert names == ["app", "other"]


def test_null_claims_no_element_and_takes_none_away() -> None:
    live = applied(None, deployment({"name": "app", "image": "app:1"}), "alice", kind=DEPLOYMENT)
    nothing = deployment()
    nothing["spec"]["template"]["spec"]["containers"] = None
    live = applied(live, nothing, "bob", kind=DEPLOYMENT)
    assert live["spec"]["template"]["spec"]["containers"] == [{"name": "app", "image": "app:1"}]
    live = applied(applied(None, config(x="1"), "alice"), config(y="2"), "bob")
    live = applied(live, {**config(), "data": None}, "bob")
    assert live["data"] == {"x": "1"}


def test_ports_get_their_protocol_as_part_of_the_key() -> None:
    port = {"name": "app", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}
    live = applied(None, deployment(port), "alice", kind=DEPLOYMENT)
    assert any('containerPort=80,protocol="TCP"' in path for path in owners(live)["alice/Apply"])


def test_elements_that_share_a_key_are_refused_with_their_place() -> None:
    twice = deployment({"name": "app"}, {"name": "app"})
    with pytest.raises(PatchError, match=r'containers: duplicate entries for key \[name="app"\]'):
        applied(None, twice, "alice", kind=DEPLOYMENT)


# -- laws
# -----------------------------------------------------------------------------------------------------

steps = st.sampled_from(["f:a", "f:b", "f:c", 'k:{"name":"x"}', 'v:"y"'])


def _canonical(node: Any) -> Any:
    below = {step: _canonical(child) for step, child in node.items() if step != "."}
    return {".": {}, **below} if "." in node and below else below


trees = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(steps | st.just("."), inner, max_size=4),
    max_leaves=10,
)
field_sets = st.dictionaries(steps, trees.map(_canonical), max_size=4)


def paths(fields: Any) -> set[tuple[str, ...]]:
    return set(fieldset.members(fields))


@given(field_sets, field_sets)
def test_the_operations_are_those_of_sets(left: Any, right: Any) -> None:
    assert paths(fieldset.union(left, right)) == paths(left) | paths(right)
    assert paths(fieldset.intersection(left, right)) == paths(left) & paths(right)
    assert paths(fieldset.difference(left, right)) == paths(left) - paths(right)


@given(field_sets)
def test_a_field_set_reads_back_as_it_was_written(fields: Any) -> None:
    assert paths(fieldset.parse_fields(fieldset.sorted_fields(fields))) == paths(fields)


data = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2"]), max_size=4)


@given(data, st.lists(st.tuples(st.sampled_from(["alice", "bob"]), data), max_size=5))
def test_what_was_last_applied_by_force_is_what_is_there(start: Any, applies: Any) -> None:
    live = updated(None, config(**start), "maker")
    for manager, values in applies:
        live = applied(live, config(**values), manager, force=True)
        assert {key: live.get("data", {}).get(key) for key in values} == values
        again = applied(live, config(**values), manager)
        assert again == live


@given(data, data)
def test_comparing_finds_exactly_what_differs(before: Any, after: Any) -> None:
    changes = fieldset.compare(config(**before), config(**after), schema_of(CONFIG_MAP))
    leaf = ("f:data",)
    assert paths(changes.added) == {(*leaf, f"f:{key}") for key in after.keys() - before.keys()}
    assert paths(changes.removed) == {(*leaf, f"f:{key}") for key in before.keys() - after.keys()}
    assert paths(changes.modified) == {
        (*leaf, f"f:{key}") for key in before.keys() & after.keys() if before[key] != after[key]
    }


EMPTY_OR_NOT = st.fixed_dictionaries(
    {},
    optional={
        "data": st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "2"]), max_size=2),
        "labels": st.dictionaries(st.sampled_from("xy"), st.just("1"), max_size=2),
        "finalizers": st.lists(st.sampled_from(["a.org/f", "b.org/f"]), unique=True),
    },
)


def config_of(fields: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "a"} | {key: fields[key] for key in ("labels", "finalizers") if key in fields}
    rest = {"data": fields["data"]} if "data" in fields else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **rest}


def stored_after(live: Any, obj: Any, manager: str, now: str) -> dict[str, Any]:
    """As the API: what holds nothing is not stored."""
    result = server_side_apply(
        live, obj, schema_of(CONFIG_MAP), kind=CONFIG_MAP, manager=manager, now=now, force=True
    )
    return normalise(CONFIG_MAP, result)


@given(
    applies=st.lists(st.tuples(st.sampled_from("mno"), EMPTY_OR_NOT), max_size=5),
    last=EMPTY_OR_NOT,
)
def test_who_applies_the_same_later_changes_nothing_empty_maps_or_not(
    applies: list[tuple[str, dict[str, Any]]], last: dict[str, Any]
) -> None:
    live = None
    for manager, fields in [*applies, ("m", last)]:
        live = stored_after(live, config_of(fields), manager, NOW)
    assert stored_after(live, config_of(last), "m", LATER) == live


def test_two_who_apply_an_empty_map_do_not_take_it_from_each_other() -> None:
    empty = config_of({"labels": {}})
    live = stored_after(None, empty, "alice", NOW)
    live = stored_after(live, empty, "bob", LATER)
    assert owners(live) == {"alice/Apply": [".metadata.labels"], "bob/Apply": [".metadata.labels"]}
    assert stored_after(live, empty, "alice", LATER) == live
