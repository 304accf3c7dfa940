"""Tells in a ValidatingAdmissionPolicy's status what its expressions would do with the kinds it is about.

A policy is looked at when it is new or changed, and all are when a kind comes or goes, for a push may bring a
policy together with the definition of what it judges.
"""

from __future__ import annotations

from gitkube.control.context import Context, Controller, unless_changed
from gitkube.objects import meta
from gitkube.objects.kinds import VALIDATING_ADMISSION_POLICY
from gitkube.objects.type_checking import expression_warnings

RETRY_S = 0.2


class PolicyStatusController(Controller):
    name = "validatingadmissionpolicy-status-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._policies = context.informer(VALIDATING_ADMISSION_POLICY)
        self._policies.add_handler(self.enqueue_changed)

    async def run(self) -> None:
        forget = self.context.registry.on_change(self._on_kinds)
        try:
            await super().run()
        finally:
            forget()

    async def reconcile(self, key: str) -> float | None:
        """One look at one policy."""
        policy = self._policies.get(key)
        if policy is None or meta.is_deleting(policy):
            return None
        registry = self.context.registry
        warnings = expression_warnings(policy, registry.by_resource, registry.by_gvk)
        generation = policy["metadata"]["generation"]
        status = policy.get("status") or {}
        said = (status.get("typeChecking") or {}).get("expressionWarnings") or []
        if (status.get("observedGeneration") or 0) >= generation and said == warnings:
            return None
        patch = {
            "metadata": {"resourceVersion": meta.resource_version(policy)},
            "status": {
                "observedGeneration": generation,
                "typeChecking": {"expressionWarnings": warnings or None},
            },
        }
        write = self.client.patch(VALIDATING_ADMISSION_POLICY, key, "", patch, subresource="status")
        return await unless_changed(write, RETRY_S)

    def _on_kinds(self) -> None:
        for policy in self._policies.list():
            self.enqueue(policy)
