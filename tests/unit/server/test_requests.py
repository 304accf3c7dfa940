"""Reading requests: paths, query, Accept, bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.api.authorization import User
from gitkube.api.client import Propagation
from gitkube.api.errors import StatusError
from gitkube.api.requests import Context, FieldValidation
from gitkube.objects.kinds import CONFIG_MAP, DEPLOYMENT, NAMESPACE, NODE, POD
from gitkube.server import queries
from gitkube.server.answers import add_warnings
from gitkube.server.bodies import parse_json, parse_yaml
from gitkube.server.identity import user_of_subject
from gitkube.server.negotiation import WHOLE, As, Form, wanted_form
from gitkube.server.paths import GroupVersion, Target, parse_path

USER = User("ada", ("system:authenticated",))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1", GroupVersion("", "v1")),
        ("/apis/apps/v1/", GroupVersion("apps", "v1")),
        ("/api/v1/pods", Target(POD)),
        ("/api/v1/namespaces/shop/pods", Target(POD, "shop")),
        ("/api/v1/namespaces/shop/pods/", Target(POD, "shop")),
        ("/api/v1/namespaces/shop/pods/web-1", Target(POD, "shop", "web-1")),
        ("/api/v1/namespaces/shop/pods/web-1/log", Target(POD, "shop", "web-1", "log")),
        ("/api/v1/namespaces", Target(NAMESPACE)),
        ("/api/v1/namespaces/shop", Target(NAMESPACE, "", "shop")),
        ("/api/v1/namespaces/shop/status", Target(NAMESPACE, "", "shop", "status")),
        ("/api/v1/namespaces/shop/finalize", Target(NAMESPACE, "", "shop", "finalize")),
        ("/api/v1/nodes/ant/status", Target(NODE, "", "ant", "status")),
        (
            "/apis/apps/v1/namespaces/shop/deployments/web/scale",
            Target(DEPLOYMENT, "shop", "web", "scale"),
        ),
        ("/api/v1/namespaces/shop/configmaps/a%20b", Target(CONFIG_MAP, "shop", "a b")),
    ],
)
def test_a_path_names_what_kubernetes_means_by_it(path: str, target: object) -> None:
    assert parse_path(path) == target


def test_a_list_sends_no_initial_events() -> None:
    with pytest.raises(StatusError) as caught:
        queries.list_options({"sendInitialEvents": "true"})
    assert caught.value.code == 422
    assert caught.value.message.endswith(
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/v2/pods",
        "/api//v1",
        "/api/v1/../v1",
        "/api/v1/nothings",
        "/api/v1/pods/x",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/nodes/x",
        "/api/v1/namespaces/default/pods/x/nothing",
        "/api/v1/namespaces/default/pods/x/log/more",
        "/api/v1/namespaces/default/pods/a%2Fb",
        "/api/v1/namespaces/default/pods/%2e%2e",
        "/apis/apps/v1/namespaces/default",
        "/apis/apps/v9/deployments",
        "/api/v1/" + "x" * 5000,
    ],
)
def test_a_path_that_names_nothing_is_404(path: str) -> None:
    with pytest.raises(StatusError) as raised:
        parse_path(path)
    assert raised.value.code == 404


@given(st.text(max_size=200))
def test_no_path_breaks_the_parser(text: str) -> None:
    try:
        parse_path("/api/" + text)
    except StatusError as error:
        assert error.code == 404


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", WHOLE),
        ("*/*", WHOLE),
        ("application/json", WHOLE),
        ("application/vnd.kubernetes.protobuf,application/json", WHOLE),
        (f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Form(As.TABLE, "v1")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", WHOLE),
        ("application/json;q=0.1," + TABLE, Form(As.TABLE, "v1")),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Form(As.PARTIAL_LIST, "v1"),
        ),
    ],
)
def test_the_accept_header_says_the_form(header: str, form: Form) -> None:
    assert wanted_form(header) == form


@pytest.mark.parametrize(
    "header", ["text/css", "application/xml", "application/vnd.kubernetes.protobuf", "application/json;q=0"]
)
def test_an_answer_that_cannot_be_had_is_406(header: str) -> None:
    with pytest.raises(StatusError) as raised:
        wanted_form(header)
    assert raised.value.code == 406


@given(st.text(max_size=300))
def test_no_accept_header_breaks_the_parser(header: str) -> None:
    try:
        wanted_form(header)
    except StatusError as error:
        assert error.code == 406


def test_the_query_makes_the_context() -> None:
    query = {"dryRun": "All", "fieldManager": "me", "fieldValidation": "Strict"}
    context = queries.request_context(query, USER, "kubectl/v1.37")
    assert (context.dry_run, context.field_manager) == (True, "me")
    assert context.field_validation is FieldValidation.STRICT


def test_the_field_manager_is_the_user_agent_up_to_the_slash() -> None:
    assert queries.request_context({}, USER, "kubectl/v1.37 (linux)").field_manager == "kubectl"
    assert queries.request_context({}, USER, "").field_manager == "unknown"


@pytest.mark.parametrize(
    "query", [{"dryRun": "Some"}, {"fieldValidation": "Perhaps"}, {"fieldManager": "x" * 129}]
)
def test_a_wrong_option_is_422(query: dict[str, str]) -> None:
    with pytest.raises(StatusError) as raised:
        queries.request_context(query, USER, "")
    assert raised.value.code == 422


@pytest.mark.parametrize("text", ["--1", "1.5", "x", "9" * 30, "²"])
def test_a_wrong_number_is_400(text: str) -> None:
    with pytest.raises(StatusError) as raised:
        queries.list_options({"limit": text})
    assert raised.value.code == 400


def test_a_deletion_takes_its_options_from_body_or_query() -> None:
    body = {"propagationPolicy": "Foreground", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}
    options, is_dry_run = queries.delete_options({}, body)
    assert (options.propagation, options.grace_period_s, options.uid) == (Propagation.FOREGROUND, 0, "u")
    assert not is_dry_run
    options, _ = queries.delete_options({"gracePeriodSeconds": "7", "orphanDependents": "true"}, None)
    assert (options.propagation, options.grace_period_s) == (Propagation.ORPHAN, 7)
    assert queries.delete_options({}, {"dryRun": ["All"]})[1]


@pytest.mark.parametrize(
    "body",
    [
        {"propagationPolicy": "Sideways"},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
        {"dryRun": ["Some"]},
        {"dryRun": 3},
        {"gracePeriodSeconds": "soon"},
        {"preconditions": "u"},
        {"preconditions": []},
        {"preconditions": {"uid": 5}},
        {"preconditions": {"resourceVersion": ["1"]}},
    ],
)
def test_wrong_delete_options_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(StatusError):
        queries.delete_options({}, body)


def test_without_a_body_the_query_says_what_must_hold_of_a_deleted_object() -> None:
    query = {"uid": "u", "resourceVersion": "7"}
    options, _ = queries.delete_options(query, None)
    assert (options.uid, options.resource_version) == ("u", "7")
    options, _ = queries.delete_options(query, {"propagationPolicy": "Orphan"})
    assert (options.uid, options.resource_version) == ("", "")


@pytest.mark.parametrize("query", [{"timeoutSeconds": "soon"}, {"limit": "x"}])
def test_a_wrong_number_never_selects_everything(query: dict[str, str]) -> None:
    with pytest.raises(StatusError):
        queries.list_options(query)


@pytest.mark.parametrize(
    ("query", "causes"),
    [
        ({"sendInitialEvents": "true"}, ["FieldValueForbidden"]),
        ({"resourceVersionMatch": "NotOlderThan"}, ["FieldValueForbidden"]),
        (
            {"sendInitialEvents": "false", "resourceVersionMatch": "Exact"},
            ["FieldValueForbidden", "FieldValueNotSupported"],
        ),
        (
            {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "continue": "x"},
            ["FieldValueForbidden"],
        ),
    ],
)
def test_what_makes_no_sense_of_a_watch_is_named(query: dict[str, str], causes: list[str]) -> None:
    with pytest.raises(StatusError) as raised:
        queries.watch_options(query)
    assert [cause["reason"] for cause in (raised.value.details or {})["causes"]] == causes


def test_who_wants_no_bookmarks_may_still_begin_with_what_is_there() -> None:
    options = queries.watch_options({"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"})
    assert options.send_initial_events
    assert not options.bookmarks


@pytest.mark.parametrize("selector", ["metadata.name=b", "metadata.namespace=x", "metadata.name!=a"])
def test_a_watch_of_one_object_cannot_select_another(selector: str) -> None:
    assert queries.watch_options({"fieldSelector": "metadata.name=a"}, "a").field_selector
    with pytest.raises(StatusError, match="doesn't match requested name"):
        queries.watch_options({"fieldSelector": selector}, "a")


def test_a_watch_list_must_say_how_new() -> None:
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    assert queries.watch_options(query).send_initial_events
    with pytest.raises(StatusError, match="NotOlderThan"):
        queries.watch_options({"sendInitialEvents": "true"})


def context(validation: FieldValidation) -> Context:
    return Context(USER, field_validation=validation)


def test_a_key_that_stands_twice_is_found_by_its_place() -> None:
    body = b'{"spec":{"a":1,"list":[{"b":1,"b":2}],"a":3}}'
    with pytest.raises(StatusError) as raised:
        parse_json(body, context(FieldValidation.STRICT))
    assert (
        raised.value.message
        == 'strict decoding error: duplicate field "spec.list[0].b", duplicate field "spec.a"'
    )
    warned = context(FieldValidation.WARN)
    assert parse_json(body, warned)["spec"]["a"] == 3
    assert warned.warnings == ['duplicate field "spec.list[0].b"', 'duplicate field "spec.a"']
    parse_json(body, context(FieldValidation.IGNORE))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":NaN}'])
def test_what_is_no_json_is_400(body: bytes) -> None:
    with pytest.raises(StatusError) as raised:
        parse_json(body, context(FieldValidation.STRICT))
    assert raised.value.code == 400


def test_yaml_bodies_are_one_document() -> None:
    assert parse_yaml(b"kind: ConfigMap\ndata: {a: 'no'}") == {"kind": "ConfigMap", "data": {"a": "no"}}
    for body in (b"a: 1\n---\nb: 2", b"a: [", b"a: 1\na: 2"):
        with pytest.raises(StatusError) as raised:
            parse_yaml(body)
        assert raised.value.code == 400


def test_a_certificate_without_a_name_is_nobody() -> None:
    assert user_of_subject(((("organizationName", "system:masters"),),)) is None
    assert user_of_subject(((("organizationName", "dev"),), (("commonName", "ada"),))) == User(
        "ada", ("dev", "system:authenticated")
    )


def test_warnings_cannot_break_out_of_their_header() -> None:
    from aiohttp import web

    response = web.Response()
    add_warnings(response, ['unknown field "a"\r\nSet-Cookie: x', "same", "same"])
    assert response.headers.getall("Warning") == [
        '299 - "unknown field \\"a\\"  Set-Cookie: x"',
        '299 - "same"',
    ]
