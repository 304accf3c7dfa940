"""Label and field selectors: read, matched, printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.objects import kinds
from gitkube.objects.fields import FieldSelectorError, parse_field_selector, selectable_fields
from gitkube.objects.labels import (
    EVERYTHING,
    NOTHING,
    SelectorError,
    parse_selector,
    selector_of,
    selector_of_map,
    selector_of_node_term,
)

LABELS = {"app": "web", "tier": "front", "size": "7"}


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ("", True), ("app=web", True), ("app==web", True), ("app=db", False), ("app!=db", True),
        ("missing!=x", True), ("app in (web,db)", True), ("app notin (web)", False),
        ("missing notin (a)", True), ("tier", True), ("!tier", False), ("!missing", True),
        ("app=web,tier=front", True), ("app=web,tier=back", False), ("size>6", True), ("size<7", False),
        ("tier>1", False), ("app=", False),
        (" app = web , tier in ( front , back ) ", True), ("missing in (,a)", False),
    ],
)  # fmt: skip
def test_the_text_form_matches_as_in_kubernetes(text: str, is_match: bool) -> None:
    assert parse_selector(text).matches(LABELS) is is_match


@pytest.mark.parametrize(
    "text",
    [
        "app=web,",
        "=web",
        "app=a b",
        "app in",
        "app in (a",
        "a=b=c",
        "a b",
        ",",
        "a=!b",
        "a in ()x",
        "A/B/c=d",
    ],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        parse_selector(text)


def test_a_missing_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert selector_of(None) is NOTHING
    assert not selector_of(None).matches({})
    assert selector_of({}) is EVERYTHING
    assert selector_of({}).matches({})
    assert selector_of_map({}) is NOTHING, "a Service without selector has no endpoints of its own"


def test_the_object_form_needs_all_its_parts() -> None:
    selector = selector_of(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "gone", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches(LABELS)
    assert not selector.matches({**LABELS, "gone": ""})
    assert str(selector) == "app=web,tier in (back,front),!gone"


def test_an_expression_that_makes_no_sense_is_refused() -> None:
    for expression in (
        {"key": "a", "operator": "Is", "values": ["b"]},
        {"key": "a", "operator": "In", "values": []},
        {"key": "a", "operator": "Exists", "values": ["b"]},
        {"key": "a b", "operator": "Exists"},
    ):
        with pytest.raises(SelectorError):
            selector_of({"matchExpressions": [expression]})


def test_node_terms_compare_numbers() -> None:
    assert selector_of_node_term([{"key": "size", "operator": "Gt", "values": ["6"]}]).matches(LABELS)
    with pytest.raises(SelectorError):
        selector_of_node_term([{"key": "size", "operator": "Gt", "values": ["big"]}])


KEYS = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
VALUES = st.from_regex(r"([a-z0-9]{1,6})?", fullmatch=True)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.dictionaries(KEYS, VALUES, max_size=4))
def test_text_and_object_form_agree(wanted: dict[str, str], labels: dict[str, str]) -> None:
    text = ",".join(f"{key}={value}" for key, value in wanted.items())
    expected = all(labels.get(key) == value for key, value in wanted.items())
    assert parse_selector(text).matches(labels) is expected
    assert selector_of({"matchLabels": wanted}).matches(labels) is expected
    assert parse_selector(str(parse_selector(text))) == parse_selector(text)


@given(st.text(max_size=20))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    try:
        selector = parse_selector(text)
    except SelectorError:
        return
    assert parse_selector(str(selector)) == selector


POD = {
    "metadata": {"name": "a", "namespace": "shop"},
    "spec": {"nodeName": "ant"},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ("", True), ("metadata.name=a", True), ("metadata.name==a,spec.nodeName=ant", True),
        ("spec.nodeName!=ant", False), ("status.phase!=Failed", True), ("metadata.namespace=other", False),
        ("spec.hostNetwork=false", True), ("spec.nodeName=", False), ("metadata.name=a\\,b", False),
    ],
)  # fmt: skip
def test_field_selectors_match(text: str, is_match: bool) -> None:
    selector = parse_field_selector(text)
    selector.check(kinds.POD)
    assert selector.matches(kinds.POD, POD) is is_match


def test_a_field_that_cannot_be_selected_by_is_an_error_and_not_an_empty_list() -> None:
    with pytest.raises(FieldSelectorError, match="field label not supported"):
        parse_field_selector("spec.containers=x").check(kinds.POD)
    with pytest.raises(FieldSelectorError, match="is not a known field selector"):
        parse_field_selector("data=x").check(kinds.CONFIG_MAP)
    with pytest.raises(FieldSelectorError):
        parse_field_selector("nonsense")


def test_every_kind_can_be_selected_by_name() -> None:
    for kind in kinds.BUILT_IN:
        assert "metadata.name" in selectable_fields(kind)
        assert ("metadata.namespace" in selectable_fields(kind)) is kind.namespaced


@pytest.mark.parametrize(
    ("kind", "text", "obj"),
    [
        (
            kinds.CERTIFICATE_SIGNING_REQUEST,
            "spec.signerName=example.com/a",
            {"spec": {"signerName": "example.com/a"}},
        ),
        (kinds.REPLICATION_CONTROLLER, "status.replicas=2", {"status": {"replicas": 2}}),
        (kinds.RESOURCE_SLICE, "spec.driver=gpu", {"spec": {"driver": "gpu"}}),
    ],
)
def test_a_kind_can_be_selected_by_the_fields_that_its_clients_ask_for(
    kind: kinds.Kind, text: str, obj: dict[str, object]
) -> None:
    selector = parse_field_selector(text)
    selector.check(kind)
    assert selector.matches(kind, {"metadata": {"name": "it"}, **obj})
    assert not selector.matches(kind, {"metadata": {"name": "other"}, "spec": {}, "status": {}})
