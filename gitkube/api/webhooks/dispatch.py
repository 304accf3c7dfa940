"""Asking the webhooks that a request is about, in Kubernetes' order.

Mutating ones one after another, by the names of their configurations and then in their order, each seeing
what those before it have changed; when one changed something, those that wish it are asked once more.
Validating ones all at once, when the object is final. A webhook that cannot be asked stops the request or is
passed over, as its `failurePolicy` says.
"""

from __future__ import annotations

import asyncio
import random

import orjson
import structlog

from gitkube.api.admission.bindings import Lazy, bindings_of
from gitkube.api.admission.conditions import REQUEST_UNITS, ConditionError
from gitkube.api.admission.request import AdmissionRequest
from gitkube.api.admission.rewriting import apply_operations
from gitkube.api.admission.rounds import Rounds
from gitkube.api.admission.versions import Versions
from gitkube.api.authorization import Authorizer
from gitkube.api.cache import WatchCache
from gitkube.api.errors import StatusError, bad_request, forbidden, internal
from gitkube.api.webhooks.caller import WebhookCaller, WebhookCallError
from gitkube.api.webhooks.configurations import Hook, Hooks
from gitkube.api.webhooks.review import (
    ReviewError,
    Verdict,
    attributes,
    chosen_version,
    patch_operations,
    question,
    read_answer,
    refusal,
)
from gitkube.objects.kinds import (
    MUTATING_WEBHOOK_CONFIGURATION,
    VALIDATING_WEBHOOK_CONFIGURATION,
    Kind,
)
from gitkube.objects.uids import new_uid

log = structlog.get_logger()

MAX_ASKING_S = 60.0
"""For all webhooks that are asked about one object together; as long as Kubernetes lets a request take."""
_MUTATION = "mutation.webhook.admission.k8s.io"
_FAILED_OPEN = "failed-open.{}.webhook.admission.k8s.io"


class Webhooks:
    def __init__(
        self,
        cache: WatchCache,
        caller: WebhookCaller,
        *,
        rng: random.Random,
        authorizer: Authorizer,
        versions: Versions,
    ) -> None:
        self._caller = caller
        self._rng = rng
        self._authorizer = authorizer
        self._versions = versions
        self._mutating = Hooks(cache, MUTATING_WEBHOOK_CONFIGURATION, versions)
        self._validating = Hooks(cache, VALIDATING_WEBHOOK_CONFIGURATION, versions)

    def concern(self, kind: Kind, subresource: str) -> bool:
        """Whether any webhook could be about such a resource."""
        return bool(self._mutating.about(kind, subresource) or self._validating.about(kind, subresource))

    async def mutate(self, request: AdmissionRequest, rounds: Rounds, *, is_second: bool) -> bool:
        """Let them change `request.obj`; whether one did.

        Raises:
            StatusError: one denied the request, or could not be asked.
        """
        has_changed = False
        for index, hook in enumerate(self._mutating.about(request.kind, request.subresource)):
            if is_second and hook.key not in rounds.due:
                continue
            matched = self._matched(hook, request)
            if matched is None:
                continue
            place = f"round_{int(is_second)}_index_{index}"
            verdict = await self._ask(hook, request, matched, place, is_mutating=True)
            has_patched = bool(
                verdict is not None and verdict.patch and self._apply(hook, request, matched, verdict)
            )
            if has_patched:
                has_changed = True
                rounds.note_change()
            noted = {"configuration": hook.configuration, "webhook": hook.name, "mutated": has_patched}
            request.context.audit_annotations[f"{_MUTATION}/{place}"] = orjson.dumps(noted).decode()
            if hook.may_reinvoke:
                rounds.asked.add(hook.key)
        return has_changed

    async def validate(self, request: AdmissionRequest) -> None:
        """Raises `StatusError` when one denied the request, or could not be asked."""
        hooks = self._validating.about(request.kind, request.subresource)
        asked = [(hook, kind) for hook in hooks if (kind := self._matched(hook, request)) is not None]
        if not asked:
            return
        answers = await asyncio.gather(
            *(
                self._ask(hook, request, kind, f"round_0_index_{index}", is_mutating=False)
                for index, (hook, kind) in enumerate(asked)
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    def _matched(self, hook: Hook, request: AdmissionRequest) -> Kind | None:
        matched = hook.match.matched(request, self._versions)
        if matched is None or not hook.conditions:
            return matched
        described = attributes(request, matched)
        bindings = Lazy(bindings_of(request, matched, described, self._authorizer))
        try:
            return matched if hook.conditions.hold(bindings, request.units.part(REQUEST_UNITS)) else None
        except ConditionError as error:
            if hook.is_optional:
                log.info("webhook_passed_over", webhook=hook.name, error=str(error))
                return None
            raise forbidden(request.kind.group, request.kind.plural, request.name, str(error)) from error

    async def _ask(
        self, hook: Hook, request: AdmissionRequest, matched: Kind, place: str, *, is_mutating: bool
    ) -> Verdict | None:
        """The verdict; None of a webhook that failed and may.

        Args:
            place: of the webhook among those that are asked, for the audit log.
        """
        if request.context.dry_run and not hook.allows_dry_run:
            raise bad_request(f'admission webhook "{hook.name}" does not support dry run')
        uid = new_uid(self._rng)
        version = chosen_version(hook.review_versions)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            if not version:
                raise ReviewError("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
            document = await self._caller.call(
                hook.client_config,
                question(request, matched, uid=uid, version=version),
                min(hook.timeout_s, max(0.0, MAX_ASKING_S - request.waited_s)),
            )
            verdict = read_answer(document, uid=uid, version=version, is_mutating=is_mutating)
        except (WebhookCallError, ReviewError) as error:
            why = f'failed calling webhook "{hook.name}": {error}'
            if hook.is_optional:
                log.warning("webhook_failed_open", webhook=hook.name, error=str(error))
                key = _FAILED_OPEN.format("mutating" if is_mutating else "validating")
                request.context.audit_annotations[f"{key}/{place}"] = hook.name
                return None
            raise internal(why) from error
        finally:
            request.waited_s += loop.time() - begun_s if is_mutating else 0.0
        request.context.warnings.extend(verdict.warnings)
        for key, value in verdict.audit_annotations.items():
            request.context.audit_annotations[f"{hook.name}/{key}"] = value
        if not verdict.is_allowed:
            raise refusal(hook.name, verdict.status)
        return verdict

    def _apply(self, hook: Hook, request: AdmissionRequest, matched: Kind, verdict: Verdict) -> bool:
        """Do the patch on the request's object; whether it changed anything.

        A patch that cannot be done is an error whatever the failurePolicy: the webhook was asked and
        answered.
        """
        try:
            operations = patch_operations(verdict)
            return apply_operations(request, matched, operations)
        except ReviewError as error:
            raise internal(f'webhook "{hook.name}": {error}') from error
        except StatusError as error:
            raise internal(error.message) from error
