"""sig-auth: certificates, accounts, their tokens, and reviews of who may do what."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conformance.api import MERGE_PATCH, CheckError, at
from tests.conformance.checks.common import check_discovered, condition, lifecycle, pod
from tests.conformance.harness import Trial, check, require

ACCOUNTS = "v1/serviceaccounts"
REQUESTS = "certificates.k8s.io/v1/certificatesigningrequests"


@check("Certificates API [Privileged:ClusterAdmin] should support CSR API operations", quick=True)
async def signing_requests_are_kept_and_approved(t: Trial) -> None:
    await check_discovered(t, REQUESTS)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e.example.com")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    request = base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()
    obj = {
        "metadata": {"name": t.unique("request")},
        "spec": {
            "request": request,
            "signerName": "example.com/e2e",
            "usages": ["digital signature", "server auth"],
        },
    }
    await lifecycle(t, REQUESTS, obj, namespaced=False)
    obj["metadata"]["name"] = t.unique("request")
    created = await t.api.create(at(REQUESTS), obj)
    path = t.leaves(at(REQUESTS, "", obj["metadata"]["name"]))
    created["status"]["conditions"] = [
        {"type": "Approved", "status": "True", "reason": "E2E", "message": "by a check"}
    ]
    approved = await t.api.put(f"{path}/approval", created)
    require(condition(approved, "Approved"), "an approval was lost")
    certificate = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").decode()
    answer = await t.api.call(
        "PATCH", f"{path}/status", {"status": {"certificate": certificate}}, content_type=MERGE_PATCH
    )
    require(answer.code in (200, 422), f"the certificate: {answer.code} {answer.message}")
    read = await t.api.get(f"{path}/approval")
    require(condition(read, "Approved").get("reason") == "E2E", "the approval cannot be read")


@check("SubjectReview should support SubjectReview API operations", quick=True)
async def reviews_say_who_may(t: Trial) -> None:
    account = f"system:serviceaccount:{t.namespace}:e2e"
    await t.api.create(at(ACCOUNTS, t.namespace), {"metadata": {"name": "e2e"}})
    asked = {"verb": "list", "resource": "configmaps", "namespace": t.namespace}
    own = t.api.acting_as(Impersonate_User=account)
    own_group = at("authorization.k8s.io/v1/selfsubjectaccessreviews")
    local = at("authorization.k8s.io/v1/localsubjectaccessreviews", t.namespace)
    review = {"spec": {"user": account, "resourceAttributes": asked}}

    async def answers() -> list[bool]:
        found = []
        for api, path, body in (
            (t.api, at("authorization.k8s.io/v1/subjectaccessreviews"), review),
            (own, own_group, {"spec": {"resourceAttributes": asked}}),
            (t.api, local, {"metadata": {"namespace": t.namespace}, **review}),
        ):
            found.append(bool((await api.create(path, body))["status"]["allowed"]))
        return found

    require(await answers() == [False, False, False], "somebody without rights may list")
    role = {
        "metadata": {"name": "e2e"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}],
    }
    await t.api.create(at("rbac.authorization.k8s.io/v1/roles", t.namespace), role)
    binding = {
        "metadata": {"name": "e2e"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "e2e"},
        "subjects": [{"kind": "ServiceAccount", "name": "e2e", "namespace": t.namespace}],
    }
    await t.api.create(at("rbac.authorization.k8s.io/v1/rolebindings", t.namespace), binding)

    async def all_may() -> bool:
        return await answers() == [True, True, True]

    await t.until("the three reviews allow what the role allows", all_may)
    listed = await own.call("GET", at("v1/configmaps", t.namespace))
    require(listed.code == 200, f"what is allowed is answered with {listed.code}")


@check("should guarantee kube-root-ca.crt exist in any namespace")
async def each_namespace_has_the_authority(t: Trial) -> None:
    path = at("v1/configmaps", t.namespace, "kube-root-ca.crt")
    made = await t.until_object("the ConfigMap is there", path, lambda one: "ca.crt" in one["data"])
    await t.api.delete(path)
    await t.until_object(
        "it is made again", path, lambda one: one["metadata"]["uid"] != made["metadata"]["uid"]
    )
    await t.api.patch(path, {"data": {"ca.crt": ""}})
    await t.until_object("it is put right", path, lambda one: one["data"]["ca.crt"] == made["data"]["ca.crt"])


@check("ServiceAccounts should run through the lifecycle of a ServiceAccount", quick=True)
async def accounts_are_kept(t: Trial) -> None:
    await lifecycle(
        t, ACCOUNTS, {"metadata": {"name": "e2e"}}, spec_patch={"automountServiceAccountToken": False}
    )


@check("ServiceAccounts should update a ServiceAccount", quick=True)
async def an_account_is_updated(t: Trial) -> None:
    obj = {"metadata": {"name": "e2e"}, "automountServiceAccountToken": False}
    created = await t.api.create(at(ACCOUNTS, t.namespace), obj)
    created["automountServiceAccountToken"] = True
    updated = await t.api.put(at(ACCOUNTS, t.namespace, "e2e"), created)
    require(updated["automountServiceAccountToken"] is True, "an update was lost")


@check("should allow opting out of API token automount", quick=True)
async def a_token_is_mounted_or_not(t: Trial) -> None:
    for name, mounts in (("mount", None), ("nomount", False)):
        await t.api.create(
            at(ACCOUNTS, t.namespace),
            {
                "metadata": {"name": name},
                **({} if mounts is None else {"automountServiceAccountToken": mounts}),
            },
        )
    cases = [
        ("mount", None, True), ("mount", True, True), ("mount", False, False),
        ("nomount", None, False), ("nomount", True, True), ("nomount", False, False),
    ]  # fmt: skip
    for number, (account, wish, expected) in enumerate(cases):
        obj = pod(f"pod-{number}", serviceAccountName=account, nodeSelector={"conformance": "nowhere"})
        if wish is not None:
            obj["spec"]["automountServiceAccountToken"] = wish
        made = await t.api.create(at("v1/pods", t.namespace), obj)
        mounts = made["spec"]["containers"][0].get("volumeMounts") or ()
        has = any(one["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount" for one in mounts)
        require(has is expected, f"account {account}, pod {wish}: mounted is {has}")


@check("should create a serviceAccountToken and ensure a successful TokenReview", quick=True)
async def a_token_is_made_and_reviewed(t: Trial) -> None:
    created = await t.api.create(at(ACCOUNTS, t.namespace), {"metadata": {"name": "e2e"}})
    door = at(ACCOUNTS, t.namespace, "e2e", "token")
    token = (await t.api.create(door, {"spec": {}}))["status"]["token"]
    review = await t.api.create(at("authentication.k8s.io/v1/tokenreviews"), {"spec": {"token": token}})
    status = review["status"]
    require(status.get("authenticated") is True, f"the token is not known: {status}")
    require(
        status["user"]["username"] == f"system:serviceaccount:{t.namespace}:e2e", f"it is {status['user']}"
    )
    require(status["user"]["uid"] == created["metadata"]["uid"], "the uid is another")
    wrong = await t.api.create(at("authentication.k8s.io/v1/tokenreviews"), {"spec": {"token": token + "x"}})
    if wrong["status"].get("authenticated"):
        raise CheckError("a broken token is accepted")
