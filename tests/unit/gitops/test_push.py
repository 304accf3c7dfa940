"""A real `git push` against a real API: what the pusher reads, and what the cluster has afterwards."""

from __future__ import annotations

import asyncio

from gitkube.objects import kinds

CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  colour: green
"""


async def test_a_good_push_is_planned_applied_and_told(repo, sync, api_client):
    repo.commit({"apps/settings.yaml": CONFIG}, "settings: first")
    code, text = await repo.push()
    print(text)
    assert code == 0
    assert "remote: gitkube  " in text and '"settings: first" by ada · 1 commit' in text
    assert "remote: plan     + ConfigMap default/settings" in text and "apps/settings.yaml:1" in text
    assert "remote: healthy  " in text
    live = await api_client.get(kinds.CONFIG_MAP, "settings", "default")
    assert live["data"] == {"colour": "green"}


async def test_a_bad_push_is_refused_and_changes_nothing(repo, sync, api_client):
    repo.commit({"apps/settings.yaml": CONFIG})
    await repo.push()
    before = repo.head()
    repo.commit({"apps/settings.yaml": CONFIG.replace("metadata:", "metadate:")})
    code, text = await repo.push()
    print(text)
    assert code == 1
    assert repo.head() == before
    assert "refused  nothing was changed" in text
    assert "apps/settings.yaml:3:1" in text and 'did you mean "metadata"?' in text
    assert "try it without pushing: gitkube plan" in text


WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "guard"},
    "webhooks": [
        {
            "name": "guard.example.org",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:1/guard"},
            "rules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
            ],
        }
    ],
}
POLICY = """\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: colours}
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}
  validations:
    - expression: "!has(object.data) || !('colour' in object.data) || object.data.colour != 'red'"
      message: nothing red, please
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: colours}
spec: {policyName: colours, validationActions: [Deny]}
"""


async def test_a_webhook_that_fails_is_told_at_the_push(repo, sync, api_client):
    await api_client.create(kinds.VALIDATING_WEBHOOK_CONFIGURATION, WEBHOOK)
    repo.commit({"apps/settings.yaml": CONFIG})
    code, text = await repo.push()
    print(text)
    assert code == 1
    assert "apps/settings.yaml:1" in text
    assert 'failed calling webhook "guard.example.org": failed to call webhook: Post' in text


async def test_a_policy_from_git_holds_from_the_next_push_on(repo, sync, api_client):
    repo.commit({"policies/colours.yaml": POLICY, "apps/settings.yaml": CONFIG})
    code, text = await repo.push()
    print(text)
    assert code == 0
    await healthy(api_client)
    repo.commit({"apps/settings.yaml": CONFIG.replace("green", "red")})
    code, text = await repo.push()
    print(text)
    assert code == 1
    said = "ValidatingAdmissionPolicy 'colours' with binding 'colours' denied request: nothing red, please"
    assert said in " ".join(text.replace("remote:", "").split())


async def healthy(api_client):
    """Wait until the policy of the push is in force."""
    for _ in range(500):
        found = await api_client.list(kinds.VALIDATING_ADMISSION_POLICY_BINDING)
        if found.items:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("the binding was not applied")
