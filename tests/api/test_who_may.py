"""The real kubectl asks who may do what, acts as others, and gives out tokens."""

from __future__ import annotations

import json

import pytest

from tests.support.live_cluster import LiveCluster

ROLE = ("create", "role", "reader", "--verb=get,list", "--resource=pods", "--resource=pods/log")


@pytest.fixture
def reader(cluster: LiveCluster, namespace: str) -> str:
    """A namespace in which jane may read pods."""
    cluster.kubectl("-n", namespace, *ROLE)
    cluster.kubectl("-n", namespace, "create", "rolebinding", "reader", "--role=reader", "--user=jane")
    return namespace


CAN = [
    ("get pods", True), ("list pods", True), ("get pods/log", True), ("get pods --subresource=log", True),
    ("watch pods", False), ("create pods", False), ("get secrets", False), ("get pods -A", False),
    ("get nodes", False), ("get /healthz", True), ("get /metrics", False), ("* *", False),
    ("create selfsubjectaccessreviews.authorization.k8s.io", True),
]  # fmt: skip


def test_can_i_tells_what_is_allowed_and_the_request_itself_agrees(cluster: LiveCluster, reader: str) -> None:
    for question, is_allowed in CAN:
        asked = cluster.kubectl(
            "-n", reader, "auth", "can-i", *question.split(), "--as=jane", "--as-group=system:authenticated",
            check=False,
        )  # fmt: skip
        assert (asked.stdout.strip() == "yes", asked.returncode == 0) == (is_allowed, is_allowed), question
    cluster.kubectl("-n", reader, "get", "pods", "--as=jane")
    refused = cluster.kubectl("-n", reader, "get", "secrets", "--as=jane", check=False)
    assert refused.returncode and 'User "jane" cannot list resource "secrets"' in refused.stderr


def test_can_i_lists_all_rights(cluster: LiveCluster, reader: str) -> None:
    listed = cluster.kubectl("-n", reader, "auth", "can-i", "--list", "--as=jane").stdout
    rows = [line.split() for line in listed.splitlines()]
    assert ["pods", "[]", "[]", "[get", "list]"] in rows
    assert not any(row[0] in ("secrets", "*.*") for row in rows)
    own = cluster.kubectl("-n", reader, "auth", "can-i", "--list").stdout
    assert ["*.*", "[]", "[]", "[*]"] in [line.split() for line in own.splitlines()]


def test_somebody_acts_as_another_only_with_the_right_to(cluster: LiveCluster, reader: str) -> None:
    who = cluster.kubectl("auth", "whoami", "--as=jane", "--as-group=team", "--as-uid=7", "-o", "yaml").stdout
    assert "username: jane" in who and "- team" in who and 'uid: "7"' in who
    refused = cluster.kubectl("get", "nodes", "--as=jane", "--as-group=system:masters")
    assert refused.returncode == 0  # the administrator may become anybody


def test_roles_are_reconciled_and_described(cluster: LiveCluster, reader: str) -> None:
    described = cluster.kubectl("-n", reader, "describe", "role", "reader").stdout
    assert "pods/log" in described
    manifest = cluster.kubectl("-n", reader, "get", "role", "reader", "-o", "yaml").stdout
    again = cluster.kubectl("auth", "reconcile", "-f", "-", input=manifest).stdout
    assert "reader" in again


def test_a_token_of_an_account_logs_in_until_the_account_is_gone(cluster: LiveCluster, reader: str) -> None:
    cluster.kubectl("-n", reader, "create", "serviceaccount", "bot")
    account = f"--serviceaccount={reader}:bot"
    cluster.kubectl("-n", reader, "create", "rolebinding", "bot", "--role=reader", account)
    token = cluster.kubectl("-n", reader, "create", "token", "bot", "--duration=20m").stdout.strip()
    # The kubeconfig's own certificate would come first: this one knows the server and nobody.
    nobody = cluster.directory / "nobody.yaml"
    shown = cluster.kubectl("config", "view", "--raw", "--minify", "-o", "yaml").stdout
    nobody.write_text(shown)
    user = cluster.kubectl("config", "view", "-o", "jsonpath={.users[0].name}").stdout
    cluster.kubectl("--kubeconfig", str(nobody), "config", "unset", f"users.{user}")
    as_bot = ("--kubeconfig", str(nobody), "--token", token)
    assert f"system:serviceaccount:{reader}:bot" in cluster.kubectl(*as_bot, "auth", "whoami").stdout
    cluster.kubectl(*as_bot, "-n", reader, "get", "pods")
    refused = cluster.kubectl(*as_bot, "-n", reader, "get", "secrets", check=False)
    assert refused.returncode and "cannot list resource" in refused.stderr
    other = cluster.kubectl("-n", reader, "create", "token", "bot", "--audience=vault").stdout.strip()
    for wrong in (other, token[:-4] + "AAAA", "nonsense"):
        turned_away = cluster.kubectl(
            "--kubeconfig", str(nobody), "--token", wrong, "get", "pods", check=False
        )
        assert turned_away.returncode and "Unauthorized" in turned_away.stderr + turned_away.stdout
    cluster.kubectl("-n", reader, "delete", "serviceaccount", "bot")
    gone = cluster.kubectl(*as_bot, "-n", reader, "get", "pods", check=False)
    assert gone.returncode and "Unauthorized" in gone.stderr + gone.stdout


def test_others_can_check_our_tokens_by_the_published_keys(cluster: LiveCluster) -> None:
    configuration = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration").stdout)
    assert configuration["jwks_uri"].endswith("/openid/v1/jwks")
    keys = json.loads(cluster.kubectl("get", "--raw", "/openid/v1/jwks").stdout)["keys"]
    assert [key["alg"] for key in keys] == ["ES256"]
