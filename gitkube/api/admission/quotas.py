"""ResourceQuotas: no write takes more than a namespace has left.

What a write costs is charged in the transaction that stores it: the quota's new `status.used` is written
beside the object, with the comparison that the quota is still the one that was read. So whoever races, from
whichever process, one of two writes finds the quota changed and is charged anew; a quota cannot be overrun,
and nothing is charged for a write that did not happen. Writers of one process are charged on top of each
other (`lanes.py`), or a burst of pods would mostly find the quota changed. What objects free when they go is
found by the controller, which counts. While limits are not in force yet, a write that they are about touches
the quota all the same: a count that began before it cannot be written, and is made again.
Source: Kubernetes' resourcequota admission plugin, of which the sentences are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.api.cache import WatchCache
from gitkube.api.keys import object_key
from gitkube.api.lanes import Charge, Newest, Touch
from gitkube.api.stored import encode
from gitkube.objects import meta, quota
from gitkube.objects.kinds import PERSISTENT_VOLUME_CLAIM, POD, RESOURCE_QUOTA, SERVICE, Kind
from gitkube.objects.pods import Resources
from gitkube.objects.quantity import ZERO, Quantity
from gitkube.objects.types import Object

_CHANGING = (SERVICE, PERSISTENT_VOLUME_CLAIM)
"""Kinds whose cost may grow while they are there."""


def charge_for(request: AdmissionRequest, now_s: float) -> Charge | None:
    """What a write costs; None when no quota of the namespace counts it."""
    if (
        not _is_charged(request)
        or next(request.cache.of(RESOURCE_QUOTA).select(request.namespace), None) is None
    ):
        return None
    cost = quota.usage(request.kind, request.obj, now_s)
    if request.old is not None:
        before = quota.usage(request.kind, request.old, now_s)
        more = {name: amount - before.get(name, ZERO) for name, amount in cost.items()}
        # What shrinks is given back by the controller when it is really free.
        is_resize = request.kind is POD
        cost = {name: amount for name, amount in more.items() if is_resize or amount > ZERO}
    cost = {name: amount for name, amount in cost.items() if amount}
    if not cost:
        return None
    turn = _Turn(request.cache, request.kind, request.namespace, request.name, request.obj, cost)
    return Charge(request.namespace, turn.take)


def _is_charged(request: AdmissionRequest) -> bool:
    if not request.kind.namespaced:
        return False
    if request.verb is Verb.CREATE:
        return not request.subresource
    if request.verb is not Verb.UPDATE:
        return False
    if request.kind is POD:
        return request.subresource == "resize"
    return request.kind in _CHANGING and not request.subresource


@dataclass(frozen=True, slots=True)
class _Turn:
    cache: WatchCache
    kind: Kind
    namespace: str
    name: str
    obj: Object
    cost: Resources

    def take(self, newest: Newest) -> list[Touch]:
        """See `Charge.take`."""
        found: list[tuple[bytes, Object, Object]] = []
        for _, one in self.cache.of(RESOURCE_QUOTA).select(self.namespace):
            key = object_key(RESOURCE_QUOTA, self.namespace, meta.name(one))
            found.append((key, one, newest(key, one)))
        asked = [one for _, _, one in found if self._is_counted_in(one)]
        for one in asked:
            self._check_known(one)
        touches = []
        for key, cached, one in found:
            after = self._charged(one) if self._is_counted_in(one) else None
            if after is None and self._is_about_to_count(one):
                after = one
            if after is not None:
                touches.append(Touch(key, int(meta.resource_version(cached)), after, encode(after)))
        return touches

    def _is_counted_in(self, one: Object) -> bool:
        # Like Kubernetes by the limits in the status: the controller has counted what was there before.
        return quota.counts(one, self.kind, self.obj, _status(one, "hard"))

    def _is_about_to_count(self, one: Object) -> bool:
        """Whether there are limits for the object that are not in force yet."""
        wanted = (one.get("spec") or {}).get("hard") or {}
        new = {name: wanted[name] for name in self.cost if name in wanted}
        return not new.keys() <= _status(one, "hard").keys() and quota.counts(one, self.kind, self.obj, new)

    def _check_known(self, one: Object) -> None:
        limited = quota.tracked(self.kind, _status(one, "hard"))
        if self.kind is POD and (why := quota.unsaid(self.obj, limited)):
            raise self._refusal(f"failed quota: {meta.name(one)}: {why}")
        unknown = limited - set(_status(one, "used"))
        if unknown:
            names = ",".join(sorted(unknown))
            raise self._refusal(f"status unknown for quota: {meta.name(one)}, resources: {names}")

    def _charged(self, one: Object) -> Object | None:
        """The quota with the write's cost; None when it costs nothing there."""
        hard, used = quota.amounts(_status(one, "hard")), quota.amounts(_status(one, "used"))
        requested = {name: amount for name, amount in self.cost.items() if name in hard}
        if not requested:
            return None
        after = quota.add(used, requested)
        exceeded = sorted(name for name in requested if after[name] > hard[name])
        if exceeded:
            parts = (
                f"{word}: {_shown(amounts, exceeded)}"
                for word, amounts in (("requested", requested), ("used", used), ("limited", hard))
            )
            raise self._refusal(f"exceeded quota: {meta.name(one)}, {', '.join(parts)}")
        return {**one, "status": {**one["status"], "used": quota.texts(after)}}

    def _refusal(self, why: str) -> errors.StatusError:
        return errors.forbidden(self.kind.group, self.kind.plural, self.name, why)


def _status(one: Object, part: str) -> Mapping[str, str]:
    return (one.get("status") or {}).get(part) or {}


def _shown(amounts: Mapping[str, Quantity], names: Iterable[str]) -> str:
    return ",".join(f"{name}={amounts.get(name, ZERO)}" for name in names)
