"""One evaluation of a policy: its variables, its parameters, and one budget for all its expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gitkube.api.admission.bindings import Lazy, bindings_of
from gitkube.api.admission.conditions import REQUEST_UNITS, program
from gitkube.api.admission.request import AdmissionRequest
from gitkube.api.authorization import Authorizer
from gitkube.api.policies.policy_set import Policy
from gitkube.api.webhooks.review import attributes
from gitkube.objects.cel import CelError, CelEvaluationError
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object


class Evaluation:
    """Values are made when an expression first asks for them, and once only."""

    def __init__(
        self,
        policy: Policy,
        request: AdmissionRequest,
        matched: Kind,
        parameters: Object | None,
        authorizer: Authorizer,
    ) -> None:
        self._policy = policy
        self._budget = request.units.part(REQUEST_UNITS)
        described = attributes(request, matched)
        makers = bindings_of(request, matched, described, authorizer)
        makers["params"] = lambda: parameters
        variables = Lazy({name: self._variable(name, source) for name, source in policy.variables})
        makers["variables"] = lambda: variables
        self.bindings: Mapping[str, Any] = Lazy(makers)

    def value(self, source: str, constructors: frozenset[str] = frozenset()) -> Any:
        """Raises `CelError` when the expression has no value."""
        compiled = program(source, self._policy.names, constructors)
        return compiled.evaluate(self.bindings, self._budget)

    def holds(self) -> bool:
        """Whether the policy's matchConditions do.

        Raises:
            ConditionError: that cannot be said.
        """
        conditions = self._policy.conditions
        return not conditions or conditions.hold(self.bindings, self._budget)

    def _variable(self, name: str, source: str) -> Callable[[], Any]:
        def make() -> Any:
            try:
                return self.value(source)
            except CelEvaluationError as error:
                why = f'composited variable "{name}" fails to evaluate: {error.message}'
                raise CelEvaluationError(why) from error

        return make


def error_text(source: str, error: CelError) -> str:
    """How Kubernetes tells that an expression of a policy failed."""
    return f"expression '{source.strip()}' resulted in error: {error.message}"
