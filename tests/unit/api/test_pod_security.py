"""Pod Security: what each level lets in, and the sentences in which it says no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitkube.api.admission.namespace_lifecycle import IMMORTAL_NAMESPACES
from gitkube.api.authorization import User
from gitkube.api.client import PatchType
from gitkube.api.errors import StatusError
from gitkube.api.machinery import Api
from gitkube.api.requests import Context
from gitkube.objects import pod_security
from gitkube.objects.kinds import DEPLOYMENT, NAMESPACE, POD, SERVICE_ACCOUNT
from gitkube.objects.pod_security.policy import Level, Standard, policy_of
from gitkube.objects.types import Object
from tests.support.real_api import ADMIN, real_api

HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
PLAIN = (
    'allowPrivilegeEscalation != false (container "c" must set '
    "securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "
    '"c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" '
    'must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set '
    'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
)


def pod(container: Object | None = None, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    containers = [{"name": "c", "image": "i", **(container or {})}]
    return {"metadata": {"annotations": annotations or {}}, "spec": {"containers": containers, **spec}}


def secured(**context: Any) -> Object:
    return pod({"securityContext": {**HARDENED, **context}})


BASELINE, RESTRICTED = Standard(Level.BASELINE), Standard(Level.RESTRICTED)


@pytest.mark.parametrize(
    ("standard", "wanted", "expected"),
    [
        (Standard(Level.PRIVILEGED), pod({"securityContext": {"privileged": True}}, hostPID=True), ""),
        (BASELINE, pod(), ""),
        (RESTRICTED, pod(), PLAIN),
        (RESTRICTED, secured(), ""),
        (
            BASELINE,
            pod({"securityContext": {"privileged": True}}, hostNetwork=True, hostIPC=True),
            'host namespaces (hostIPC=true, hostNetwork=true), privileged (container "c" must not set '
            "securityContext.privileged=true)",
        ),
        (
            BASELINE,
            pod({"securityContext": {"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}}}),
            'non-default capabilities (container "c" must not include "NET_RAW", "SYS_ADMIN" in '
            "securityContext.capabilities.add)",
        ),
        (
            RESTRICTED,
            secured(capabilities={"drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"]}),
            'unrestricted capabilities (container "c" must not include "CHOWN" in '
            "securityContext.capabilities.add)",
        ),
        (
            BASELINE,
            pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {"path": "/"}}]),
            'hostPath volumes (volumes "a", "b")',
        ),
        (
            BASELINE,
            pod({"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 81}]}),
            'hostPort (container "c" uses hostPorts 80, 81)',
        ),
        (
            BASELINE,
            pod({"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}}),
            'probe or lifecycle host (container "c" uses probe or lifecycle host "10.0.0.1")',
        ),
        (
            Standard(Level.BASELINE, 33),
            pod({"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}}}),
            "",
        ),
        (
            BASELINE,
            pod({"securityContext": {"procMount": "Unmasked"}}),
            'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
        ),
        (BASELINE, pod({"securityContext": {"procMount": "Unmasked"}}, hostUsers=False), ""),
        (
            BASELINE,
            pod(securityContext={"seLinuxOptions": {"type": "spc_t", "user": "u"}}),
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be '
            "set)",
        ),
        (
            BASELINE,
            pod(
                {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
                securityContext={"seccompProfile": {"type": "Unconfined"}},
            ),
            'seccompProfile (pod and container "c" must not set securityContext.seccompProfile.type to '
            '"Unconfined")',
        ),
        (
            BASELINE,
            pod(securityContext={"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            Standard(Level.BASELINE, 26),
            pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}),
            "forbidden sysctls (net.ipv4.tcp_rmem)",
        ),
        (
            BASELINE,
            pod(annotations={"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}),
            'forbidden AppArmor profile (annotation "container.apparmor.security.beta.kubernetes.io/c" must '
            'not set AppArmor profile type to "unconfined")',
        ),
        (
            BASELINE,
            pod(securityContext={"windowsOptions": {"hostProcess": True}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            RESTRICTED,
            {**(hardened := secured()), "spec": {**hardened["spec"], "volumes": [{"name": "n", "nfs": {}}]}},
            'restricted volume types (volume "n" uses restricted volume type "nfs")',
        ),
        (RESTRICTED, secured(runAsUser=0), 'runAsUser=0 (container "c" must not set runAsUser=0)'),
        (
            RESTRICTED,
            secured(runAsNonRoot=False),
            'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)',
        ),
        (
            RESTRICTED,
            pod(
                os={"name": "windows"},
                securityContext={"runAsNonRoot": True},
            ),
            "",
        ),
        (
            Standard(Level.RESTRICTED, 18),
            pod(securityContext={"runAsNonRoot": True}),
            'allowPrivilegeEscalation != false (container "c" must set '
            "securityContext.allowPrivilegeEscalation=false)",
        ),
    ],
)
def test_what_a_standard_says_of_a_pod(standard: Standard, wanted: Object, expected: str) -> None:
    assert pod_security.details(pod_security.evaluate(standard, wanted)) == expected


def test_workloads_are_warned_by_what_is_enforced_unless_the_namespace_says_otherwise() -> None:
    policy, wrong = policy_of({"pod-security.kubernetes.io/enforce": "baseline"})
    assert not wrong
    assert str(policy.warn) == "baseline:latest"
    assert str(policy.audit) == "privileged:latest"
    labels = {
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.30",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "latest",
    }
    policy, wrong = policy_of(labels)
    assert (str(policy.enforce), str(policy.warn)) == ("baseline:v1.30", "restricted:latest")


async def shop(api: Api, **labels: str) -> None:
    client = api.client(ADMIN)
    named = {f"pod-security.kubernetes.io/{mode}": level for mode, level in labels.items()}
    metadata = {"name": "shop", "labels": named}
    await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    account = {"name": "default", "namespace": "shop"}
    await client.create(SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})


def named_pod(name: str = "x", **container: Any) -> Object:
    wanted = pod(container or None)
    return {"apiVersion": "v1", "kind": "Pod", **wanted, "metadata": {"name": name, "namespace": "shop"}}


def asking() -> Context:
    return Context(User("somebody", groups=("system:masters",)))


async def test_a_pod_that_violates_what_is_enforced_is_refused(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        await shop(api, enforce="restricted")
        with pytest.raises(StatusError) as refused:
            await api.client(ADMIN).create(POD, named_pod())
        assert refused.value.code == 403
        assert refused.value.message == (
            f'pods "x" is forbidden: violates PodSecurity "restricted:latest": {PLAIN}'
        )
        created = await api.client(ADMIN).create(POD, named_pod(securityContext=HARDENED))
        assert created["metadata"]["name"] == "x"


async def test_a_warned_pod_and_the_template_of_a_workload_are_taken_with_a_warning(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        await shop(api, warn="restricted")
        context = asking()
        await api.verbs.create(context, POD, "shop", named_pod())
        expected = f'would violate PodSecurity "restricted:latest": {PLAIN}'
        assert context.warnings == [expected]
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": named_pod()["spec"]},
            },
        }
        context = asking()
        await api.verbs.create(context, DEPLOYMENT, "shop", deployment)
        assert context.warnings == [expected]


async def test_what_is_audited_is_noted_and_nobody_is_warned(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        await shop(api, audit="restricted")
        context = asking()
        await api.verbs.create(context, POD, "shop", named_pod())
        assert context.warnings == []
        assert context.audit_annotations == {
            "pod-security.kubernetes.io/enforce-policy": "privileged:latest",
            "pod-security.kubernetes.io/audit-violations": (
                f'would violate PodSecurity "restricted:latest": {PLAIN}'
            ),
        }


async def test_a_namespace_with_a_wrong_label_is_refused(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        with pytest.raises(StatusError) as refused:
            await shop(api, **{"enforce": "tight", "warn-version": "1.30"})
        assert refused.value.code == 422
        assert refused.value.message == (
            'Namespace "shop" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid '
            'value: "tight": must be one of privileged, baseline, restricted, '
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "
            '"1.30": must be "latest" or "v1.x"]'
        )


async def test_a_namespace_that_becomes_stricter_warns_of_its_pods_and_keeps_them(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        await shop(api)
        client = api.client(ADMIN)
        for name in ("b", "a"):
            await client.create(POD, named_pod(name))
        await client.create(POD, named_pod("p", securityContext={"privileged": True}))
        context = asking()
        patch = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
        await api.verbs.patch(context, NAMESPACE, "", "shop", patch, PatchType.MERGE)
        assert context.warnings == [
            'existing pods in namespace "shop" violate the new PodSecurity enforce level "baseline:latest"',
            "p: privileged",
        ]
        context = asking()
        patch = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        await api.verbs.patch(context, NAMESPACE, "", "shop", patch, PatchType.MERGE)
        rest = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, "
        rest += "seccompProfile"
        assert context.warnings == [
            'existing pods in namespace "shop" violate the new PodSecurity enforce level "restricted:latest"',
            f"a (and 1 other pod): {rest}",
            f"p: privileged, {rest}",
        ]
        # A change that has nothing to do with it is let through; a new image is not.
        await client.patch(POD, "a", "shop", {"metadata": {"labels": {"x": "y"}}})
        with pytest.raises(StatusError, match="violates PodSecurity"):
            image = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
            await client.patch(POD, "a", "shop", image, type=PatchType.STRATEGIC)


async def test_the_first_namespaces_are_held_to_nothing(tmp_path: Path) -> None:
    async with real_api(tmp_path) as api:
        for name in IMMORTAL_NAMESPACES:
            namespace = await api.client(ADMIN).get(NAMESPACE, name)
            assert str(policy_of(namespace["metadata"]["labels"])[0].enforce) == "privileged:latest"
