"""The rules that are objects themselves, in Kubernetes' order: policies, then webhooks.

To change an object both are asked once, and when one has changed it, the built-in rules and those that wish
it are asked a second time, so that what one adds is seen by all; there is never a third time. To judge it,
they see it as it will be stored.
"""

from __future__ import annotations

from collections.abc import Callable

from gitkube.api.admission.matching import EXEMPT
from gitkube.api.admission.request import AdmissionRequest, Extensions
from gitkube.api.admission.rounds import Rounds
from gitkube.api.policies.mutating import MutatingPolicies
from gitkube.api.policies.validating import ValidatingPolicies
from gitkube.api.webhooks.dispatch import Webhooks
from gitkube.objects.kinds import Kind
from gitkube.objects.patch.copying import clone, equal


class ExtensionRules:
    """Implements `Extensions`."""

    def __init__(
        self, webhooks: Webhooks, mutating: MutatingPolicies, validating: ValidatingPolicies
    ) -> None:
        self._webhooks = webhooks
        self._mutating = mutating
        self._validating = validating

    def concern(self, kind: Kind, subresource: str) -> bool:
        if kind in EXEMPT:
            return False
        return (
            self._webhooks.concern(kind, subresource)
            or self._validating.concern(kind, subresource)
            or self._mutating.concern(kind, subresource)
        )

    async def mutate(self, request: AdmissionRequest, again: Callable[[], None]) -> bool:
        policies, webhooks = Rounds(), Rounds()
        has_changed = self._mutating.mutate(request, policies, is_second=False)
        if await self._webhooks.mutate(request, webhooks, is_second=False):
            has_changed = True
            policies.note_change()
        if not has_changed:
            return False
        seen = clone(request.obj)
        again()
        if not equal(seen, request.obj):
            policies.note_change()
            webhooks.note_change()
        if self._mutating.mutate(request, policies, is_second=True):
            webhooks.note_change()
        await self._webhooks.mutate(request, webhooks, is_second=True)
        return True

    async def validate(self, request: AdmissionRequest) -> None:
        self._validating.validate(request)
        await self._webhooks.validate(request)


def _keeps_the_protocol(rules: ExtensionRules) -> Extensions:
    return rules
