"""The dialect in single requests: status codes, headers, forms, watches, as clients depend on them."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
import tempfile
import zlib
from typing import Any

import pytest

from gitkube.objects.kinds import CONFIG_MAP
from gitkube.server.kubeconfig import Credentials
from tests.support.live_cluster import LiveCluster

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
JSON = {"Content-Type": "application/json"}
MERGE = {"Content-Type": "application/merge-patch+json"}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.code = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One connection with (or without) a client certificate."""

    def __init__(self, cluster: LiveCluster, credentials: Credentials | None) -> None:
        context = ssl.create_default_context(cadata=cluster.pki.ca_pem.decode())
        if credentials is not None:
            with tempfile.NamedTemporaryFile() as file:
                file.write(credentials.certificate + credentials.key)
                file.flush()
                context.load_cert_chain(file.name)
        host, port = cluster.url.removeprefix("https://").split(":")
        self.connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, path, data, headers or {})
        return Answer(self.connection.getresponse())

    def lines(self, path: str, count: int, headers: dict[str, str] | None = None) -> list[Any]:
        """The first lines of a stream; the connection is of no more use then."""
        self.connection.request("GET", path, headers=headers or {})
        response = self.connection.getresponse()
        assert response.status == 200, response.read()
        found = [json.loads(response.readline()) for _ in range(count)]
        self.connection.close()
        return found


@pytest.fixture
def call(cluster: LiveCluster) -> Caller:
    return Caller(cluster, cluster.pki.client_certificate("root", ["system:masters"]))


@pytest.fixture
def ada(cluster: LiveCluster) -> Caller:
    return Caller(cluster, cluster.pki.client_certificate("ada", ["dev"]))


@pytest.fixture
def nobody(cluster: LiveCluster) -> Caller:
    return Caller(cluster, None)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


# ---------------------------------------------------------------------- who may


def test_without_a_certificate_only_health_and_version_answer(nobody: Caller) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert nobody("GET", path).code == 200
    for path in ("/api", "/apis", "/api/v1/pods", "/metrics", "/openapi/v3", "/", "/nothing"):
        answer = nobody("GET", path)
        assert (answer.code, answer.json["reason"]) == (403, "Forbidden"), path


def test_a_user_without_rights_discovers_and_no_more(ada: Caller) -> None:
    assert ada("GET", "/api/v1").code == 200
    refused = ada("GET", "/api/v1/namespaces/default/pods")
    assert refused.code == 403
    assert 'User "ada" cannot list resource "pods"' in refused.json["message"]
    assert (
        ada("GET", "/metrics").json["message"].startswith('forbidden: User "ada" cannot get path "/metrics"')
    )
    for subresource in ("log", "exec?command=ls&stdout=1"):
        assert ada("GET", f"/api/v1/namespaces/default/pods/x/{subresource}").code == 403


def test_reading_pods_is_not_the_right_to_run_commands_in_them(call: Caller) -> None:
    answer = call("GET", "/api/v1/namespaces/default/pods/x/exec?command=ls&stdout=1")
    assert (answer.code, answer.json["reason"]) == (404, "NotFound")


# ---------------------------------------------------------------------- what is refused, and how


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nothings", 404),
        ("GET", "/api/v2", 404),
        ("GET", "/version/x", 404),
        ("POST", "/api/v1/namespaces/default/pods/x", 405),
        ("PUT", "/api/v1/namespaces/default/pods", 405),
        ("PATCH", "/api/v1/namespaces/default/pods", 405),
        ("POST", "/api/v1/pods", 405),
        ("DELETE", "/version", 405),
    ],
)
def test_what_is_not_there_or_not_allowed_is_a_status(
    call: Caller, method: str, path: str, code: int
) -> None:
    answer = call(method, path, {} if method in ("POST", "PUT", "PATCH") else None, JSON)
    assert (answer.code, answer.json["kind"], answer.json["code"]) == (code, "Status", code)


def test_every_answer_has_an_id(call: Caller) -> None:
    first, second = call("GET", "/version"), call("GET", "/nothing")
    assert first.headers["Audit-Id"] and first.headers["Audit-Id"] != second.headers["Audit-Id"]


def test_types_that_are_not_spoken(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert call("POST", path, b"x", {"Content-Type": "text/plain"}).code == 415
    assert call("GET", path, headers={"Accept": "text/css"}).code == 406
    call("POST", path, config_map("a"), JSON)
    assert call("PATCH", f"{path}/a", {}, JSON).code == 415
    unknown = b"k8s\x00" + b"\x0a\x10\x0a\x0eexample.org/v1"
    assert call("POST", path, unknown, {"Content-Type": "application/vnd.kubernetes.protobuf"}).code == 415


def test_a_body_that_is_too_large_is_413(call: Caller, namespace: str) -> None:
    answer = call("POST", f"/api/v1/namespaces/{namespace}/configmaps", b" " * (3 * 1024 * 1024 + 1), JSON)
    assert (answer.code, answer.json["reason"]) == (413, "RequestEntityTooLarge")


def test_duplicate_keys_are_refused_or_warned_of(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"1","x":"2"}}'
    strict = call("POST", path + "?fieldValidation=Strict", body, JSON)
    assert strict.code == 400
    assert 'strict decoding error: duplicate field "data.x"' in strict.json["message"]
    warned = call("POST", path, body, JSON)
    assert warned.code == 201
    assert warned.headers["Warning"] == '299 - "duplicate field \\"data.x\\""'


def test_an_unknown_field_is_warned_of_by_default(call: Caller, namespace: str) -> None:
    body = {**config_map("a"), "colour": "red"}
    answer = call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body, JSON)
    assert answer.code == 201
    assert "colour" not in answer.json
    assert 'unknown field \\"colour\\"' in answer.headers["Warning"]


def test_apply_wants_a_field_manager(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/a"
    headers = {"Content-Type": "application/apply-patch+yaml"}
    answer = call("PATCH", path, config_map("a"), headers)
    assert (answer.code, answer.json["details"]["causes"][0]["field"]) == (422, "fieldManager")
    yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: 'no'\n"
    applied = call("PATCH", path + "?fieldManager=me", yaml, headers)
    assert (applied.code, applied.json["data"]) == (201, {"x": "no"})
    assert call("PATCH", path + "?fieldManager=me", yaml, headers).code == 200


def test_no_content_type_is_json_and_yaml_is_taken(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert call("POST", path, config_map("a")).code == 201
    yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\n"
    assert call("POST", path, yaml, {"Content-Type": "application/yaml"}).code == 201


def test_a_finished_deletion_answers_with_what_is_gone(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    uid = call("POST", path, config_map("a"), JSON).json["metadata"]["uid"]
    answer = call("DELETE", f"{path}/a").json
    assert answer["status"] == "Success"
    assert answer["details"] == {"name": "a", "kind": "configmaps", "uid": uid}


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        ("", None, 200),
        ("?orphanDependents=true", None, 200),
        ("?orphanDependents=false", None, 202),
        ("", {"orphanDependents": False}, 202),
        ("?orphanDependents=false", {}, 200),
        ("?propagationPolicy=Background", None, 200),
    ],
)
def test_a_deletion_that_waits_is_accepted_when_it_is_asked_for_in_the_old_way(
    call: Caller, namespace: str, query: str, body: dict[str, Any] | None, code: int
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.org/hold"]
    call("POST", path, held, JSON)
    answer = call("DELETE", f"{path}/held{query}", body, JSON if body is not None else {})
    assert answer.code == code
    assert answer.json["metadata"]["deletionTimestamp"]
    call("PATCH", f"{path}/held", {"metadata": {"finalizers": None}}, MERGE)
    assert call("DELETE", f"{path}/held{query}", body, JSON if body is not None else {}).code == 404


@pytest.mark.parametrize(
    ("query", "accept", "code"),
    [("", "text/html", 406), ("?uid=another", "*/*", 409), ("?resourceVersion=1", "*/*", 409)],
)
def test_a_deletion_that_is_refused_deletes_nothing(
    call: Caller, namespace: str, query: str, accept: str, code: int
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    call("POST", path, config_map("a"), JSON)
    assert call("DELETE", f"{path}/a{query}", headers={"Accept": accept}).code == code
    assert call("GET", f"{path}/a").code == 200
    assert call("DELETE", f"{path}?timeoutSeconds=soon").code == 400
    assert call("GET", f"{path}/a").code == 200


BOMB = gzip.compress(b" " * 50_000_000)
NAMED = b'{"metadata":{"name":"a"}}'


@pytest.mark.parametrize(
    ("coding", "body", "code"),
    [
        ("gzip", gzip.compress(NAMED), 201),
        ("deflate", zlib.compress(NAMED), 201),
        ("GZIP", gzip.compress(NAMED), 201),
        ("identity", NAMED, 201),
        ("gzip", BOMB, 413),
        ("gzip", BOMB[:1000], 400),
        ("gzip", gzip.compress(NAMED)[:-9], 400),
        ("gzip", NAMED, 400),
        ("br", b"abc", 415),
    ],
    ids=[
        "gzip",
        "deflate",
        "upper case",
        "identity",
        "bomb",
        "half a bomb",
        "cut off",
        "not packed",
        "unknown",
    ],
)
def test_a_packed_body_is_unpacked_within_the_limit(
    call: Caller, namespace: str, coding: str, body: bytes, code: int
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    answer = call("POST", path, body, {**JSON, "Content-Encoding": coding})
    assert answer.code == code, answer.body
    assert call("GET", path).code == 200


def test_dry_run_stores_nothing(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert call("POST", path + "?dryRun=All", config_map("a"), JSON).code == 201
    assert call("GET", f"{path}/a").code == 404
    call("POST", path, config_map("a"), JSON)
    assert call("DELETE", f"{path}/a", {"dryRun": ["All"]}, JSON).code == 200
    assert call("GET", f"{path}/a").code == 200


def test_the_field_manager_is_the_user_agent_by_default(call: Caller, namespace: str) -> None:
    headers = {**JSON, "User-Agent": "mytool/1.0"}
    made = call("POST", f"/api/v1/namespaces/{namespace}/configmaps", config_map("a", x="y"), headers).json
    assert made["metadata"]["managedFields"][0]["manager"] == "mytool"


# ---------------------------------------------------------------------- forms


def test_a_large_answer_is_compressed_for_those_who_take_it(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    call("POST", path, config_map("big", x="x" * 200_000), JSON)
    plain = call("GET", path)
    assert "Content-Encoding" not in plain.headers
    packed = call("GET", path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


def test_a_table_has_columns_and_rows_with_their_metadata(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    call("POST", path, config_map("a", x="y"), JSON)
    table = call("GET", path, headers={"Accept": TABLE}).json
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 1]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = call("GET", path + "?includeObject=Object", headers={"Accept": TABLE}).json
    assert whole["rows"][0]["object"]["data"] == {"x": "y"}
    none = call("GET", path + "?includeObject=None", headers={"Accept": TABLE}).json
    assert "object" not in none["rows"][0]
    assert call("GET", path + "?includeObject=All", headers={"Accept": TABLE}).code == 400


def test_metadata_alone_for_those_who_need_no_more(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    call("POST", path, config_map("a", x="y"), JSON)
    one = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    answer = call("GET", f"{path}/a", headers={"Accept": one}).json
    assert (answer["kind"], answer["metadata"]["name"]) == ("PartialObjectMetadata", "a")
    assert "data" not in answer
    many = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    assert call("GET", path, headers={"Accept": many}).json["items"][0]["kind"] == "PartialObjectMetadata"


# ---------------------------------------------------------------------- watches


def test_a_watch_sends_its_headers_before_any_event(call: Caller, namespace: str) -> None:
    version = call("GET", f"/api/v1/namespaces/{namespace}/configmaps").json["metadata"]["resourceVersion"]
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=1&resourceVersion={version}"
    call.connection.request("GET", path)
    response = call.connection.getresponse()
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert response.headers["Transfer-Encoding"] == "chunked"
    call.connection.close()


def test_a_watch_list_says_where_the_first_events_end(
    cluster: LiveCluster, call: Caller, namespace: str
) -> None:
    obj = config_map("a")
    obj["metadata"]["namespace"] = namespace
    cluster.run(cluster.client.create(CONFIG_MAP, obj))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    added, bookmark = call.lines(f"/api/v1/namespaces/{namespace}/configmaps?{query}", 2)
    assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "a")
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert bookmark["object"]["kind"] == "ConfigMap"


def test_a_watched_table_has_its_columns_once(cluster: LiveCluster, call: Caller, namespace: str) -> None:
    for name in ("a", "b"):
        obj = config_map(name)
        obj["metadata"]["namespace"] = namespace
        cluster.run(cluster.client.create(CONFIG_MAP, obj))
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=1"
    first, second = call.lines(path, 2, {"Accept": TABLE})
    assert first["object"]["kind"] == "Table"
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][0] == "b"


def test_a_watch_ends_in_good_order_when_its_time_is_over(call: Caller, namespace: str) -> None:
    answer = call("GET", f"/api/v1/namespaces/{namespace}/configmaps?watch=1&timeoutSeconds=1")
    assert (answer.code, answer.body) == (200, b"")
    assert call("GET", "/version").code == 200  # on the same connection


def test_a_watch_from_the_future_ends_when_its_time_is_over(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=true&timeoutSeconds=1&resourceVersion=999999999"
    answer = call("GET", path)
    assert (answer.code, answer.body) == (200, b"")


def test_a_watched_table_of_nothing_that_there_is_is_refused_at_once(call: Caller, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=true&timeoutSeconds=1&includeObject=All"
    assert call("GET", path, headers={"Accept": TABLE}).code == 400


def test_a_watch_from_the_past_is_told_so_by_an_event(
    cluster: LiveCluster, call: Caller, namespace: str
) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    version = call("GET", path).json["metadata"]["resourceVersion"]
    cluster.forget_leases(namespace)
    answer = call("GET", f"{path}?watch=1&resourceVersion={version}")
    event = answer.json
    assert (answer.code, event["type"]) == (200, "ERROR")
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


def test_a_watch_by_the_old_path(call: Caller, namespace: str) -> None:
    call("POST", f"/api/v1/namespaces/{namespace}/configmaps", config_map("a"), JSON)
    answer = call("GET", f"/api/v1/watch/namespaces/{namespace}/configmaps/a?timeoutSeconds=1")
    assert (answer.json["type"], answer.json["object"]["metadata"]["name"]) == ("ADDED", "a")
    assert call("GET", f"/api/v1/watch/namespaces/{namespace}/pods/a/log").code == 404


def test_a_watch_with_bookmarks_has_one_before_it_ends(call: Caller, namespace: str) -> None:
    query = "watch=1&allowWatchBookmarks=true&timeoutSeconds=2"
    answer = call("GET", f"/api/v1/namespaces/{namespace}/configmaps?{query}")
    assert [json.loads(line)["type"] for line in answer.body.splitlines()] == ["BOOKMARK"]


def test_a_watch_list_may_do_without_what_is_there(call: Caller, namespace: str) -> None:
    call("POST", f"/api/v1/namespaces/{namespace}/configmaps", config_map("a"), JSON)
    query = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    answer = call("GET", f"/api/v1/namespaces/{namespace}/configmaps?{query}")
    assert (answer.code, answer.body) == (200, b"")


# ---------------------------------------------------------------------- how answers are written


def test_who_asks_for_yaml_gets_yaml(call: Caller, namespace: str) -> None:
    call("POST", f"/api/v1/namespaces/{namespace}/configmaps", config_map("a"), JSON)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    answer = call("GET", path, headers={"Accept": "application/yaml"})
    assert answer.headers["Content-Type"] == "application/yaml"
    assert answer.body.startswith(b"apiVersion: v1\nitems:\n- apiVersion: v1\n")


@pytest.mark.parametrize(
    ("query", "agent", "is_pretty"),
    [
        ("?pretty=true", "kubectl/v1.37", True),
        ("", "curl/8.1", True),
        ("", "Mozilla/5.0", True),
        ("?pretty=false", "curl/8.1", False),
        ("", "kubectl/v1.37", False),
    ],
)
def test_people_get_indented_answers(call: Caller, query: str, agent: str, is_pretty: bool) -> None:
    answer = call("GET", f"/api/v1/namespaces/default{query}", headers={"User-Agent": agent})
    assert answer.body.startswith(b'{\n  "') == is_pretty
    assert answer.json["kind"] == "Namespace"


def test_an_unknown_path_says_which_there_are(call: Caller) -> None:
    answer = call("GET", "/nothing")
    assert answer.code == 404
    assert {"/api", "/apis/apps/v1", "/readyz/etcd", "/metrics"} <= set(answer.json["paths"])


def test_health_is_told_check_by_check(call: Caller) -> None:
    assert call("GET", "/readyz/etcd").body == b"ok"
    assert call("GET", "/livez/nothing").code == 404
    text = call("GET", "/readyz?verbose&exclude=etcd&exclude=moon").body.decode()
    assert "[+]etcd excluded: ok\n[+]informer-sync ok\n" in text
    assert text.endswith('cannot be excluded: no matches for "moon"\nreadyz check passed\n')


# ---------------------------------------------------------------------- discovery and schemas


def test_both_forms_of_discovery(call: Caller) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = call("GET", "/apis", headers={"Accept": f"{aggregated},application/json"})
    assert answer.headers["Content-Type"] == aggregated
    assert answer.json["apiVersion"] == "apidiscovery.k8s.io/v2"
    again = call("GET", "/apis", headers={"Accept": aggregated, "If-None-Match": answer.headers["ETag"]})
    assert (again.code, again.body) == (304, b"")
    groups = call("GET", "/apis/").json
    assert "apps" in [group["name"] for group in groups["groups"]]
    assert call("GET", "/api").json["versions"] == ["v1"]
    resources = {item["name"]: item for item in call("GET", "/apis/apps/v1").json["resources"]}
    assert resources["deployments/scale"]["group"] == "autoscaling"
    assert call("GET", "/apis/apps").json["preferredVersion"]["version"] == "v1"


def test_openapi_documents_have_names_that_last(call: Caller) -> None:
    index = call("GET", "/openapi/v3").json["paths"]
    url = index["apis/apps/v1"]["serverRelativeURL"]
    answer = call("GET", url)
    assert "immutable" in answer.headers["Cache-Control"]
    document = answer.json
    schema = document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    assert schema["x-kubernetes-group-version-kind"] == [
        {"group": "apps", "kind": "Deployment", "version": "v1"}
    ]
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert call("GET", "/openapi/v3/apis/none/v1").code == 404


def test_every_reference_of_every_openapi_document_leads_somewhere(call: Caller) -> None:
    for path in call("GET", "/openapi/v3").json["paths"]:
        text = call("GET", f"/openapi/v3/{path}").body.decode()
        schemas = json.loads(text)["components"]["schemas"]
        for part in text.split('"#/components/schemas/')[1:]:
            assert part.split('"')[0] in schemas
        assert "$defs" not in text


def test_a_client_that_goes_away_is_forgotten(cluster: LiveCluster, call: Caller, namespace: str) -> None:
    call.lines(f"/api/v1/namespaces/{namespace}/configmaps?watch=1&timeoutSeconds=60", 0)
    metrics = Caller(cluster, cluster.pki.client_certificate("root", ["system:masters"]))
    for _ in range(50):
        text = metrics("GET", "/metrics").body.decode()
        if "apiserver_longrunning_requests 0.0" in text:
            return
    raise AssertionError("the watch is still counted")


def test_bytes_that_are_no_http_do_no_harm(cluster: LiveCluster, call: Caller) -> None:
    host, port = cluster.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.recv(100)
    assert call("GET", "/readyz").body == b"ok"


def test_a_method_that_is_not_served_makes_no_series_of_its_own(call: Caller) -> None:
    assert call("PROPFIND", "/version").code == 405
    text = call("GET", "/metrics").body.decode()
    assert "propfind" not in text.lower()
    assert 'verb="other"' in text


def test_a_question_has_no_table_for_an_answer(call: Caller) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert call("POST", path, review, JSON).code == 201
    refused = call("POST", path, review, {**JSON, "Accept": TABLE})
    assert (refused.code, refused.json["reason"]) == (406, "NotAcceptable")
    assert call("POST", path, review, {**JSON, "Accept": f"{TABLE}, application/json"}).code == 201


def test_a_question_is_no_object_and_has_no_name(call: Caller) -> None:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    review |= {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert call("POST", path, {**review, "metadata": {"creationTimestamp": None}}, JSON).code == 201
    refused = call("POST", path, {**review, "metadata": {"name": "mine"}}, JSON)
    assert refused.code == 422
    assert refused.json["details"]["causes"][0]["field"] == "metadata"
