"""Between the versions of a definition that has a webhook for it: many objects in one call, each once.

Everything that decides about objects reads them at once, from memory; a webhook is asked over the network. So
whoever meets an object that has not been converted yet is stopped by `ConversionNeeded`, which knows what to
ask, and begins again with the answer in memory. Lists ask for all of their objects before they read. What a
webhook has said of a stored object is remembered as long as it is stored so.

A webhook may change anything of an object but what it is: its name, its namespace, its uid, and of the
metadata all but labels and annotations.
Source: k8s.io/apiextensions-apiserver, pkg/apiserver/conversion/webhook_converter.go.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gitkube.api.errors import StatusError
from gitkube.objects.custom.definition import CustomKind
from gitkube.objects.custom.pruning import pruned
from gitkube.objects.types import Object
from gitkube.objects.uids import new_uid

if TYPE_CHECKING:
    from gitkube.api.custom.views import KindView
    from gitkube.api.webhooks.caller import WebhookCaller

TIMEOUT_S = 30.0
MAX_OBJECTS = 500
"""Of one call: bounds the size of a question."""
_REVIEW_VERSIONS = ("v1", "v1beta1")
_GROUP = "apiextensions.k8s.io"
_TRIES = 16
"""How often a reader begins again; each time because of objects that came meanwhile."""
_T = TypeVar("_T")


class ConversionNeeded(Exception):
    """A reader has met stored objects that its version has not seen yet."""

    def __init__(self, view: KindView, items: Sequence[tuple[str, Object]]) -> None:
        super().__init__(f"{len(items)} objects have to be converted first")
        self._view = view
        self._items = items

    async def convert(self) -> None:
        """Ask the webhook.

        Raises:
            StatusError: 500, it has no answer.
        """
        await self._view.prepare(self._items)


async def with_conversion(read: Callable[[], Awaitable[_T]]) -> _T:
    """What `read` gives, which begins again whenever something has to be converted.

    Raises:
        StatusError: what `read` raises; 500 when a webhook has no answer.
    """
    for _ in range(_TRIES):
        try:
            return await read()
        except ConversionNeeded as needed:
            await needed.convert()
    raise StatusError(
        503, "ServiceUnavailable", "objects change faster than they can be converted", retry_after_s=1
    )


class Conversion:
    """Asks conversion webhooks."""

    def __init__(self, caller: WebhookCaller, rng: random.Random) -> None:
        self._caller = caller
        self._rng = rng

    async def convert(self, custom: CustomKind, objects: Sequence[Object], version: str) -> list[Object]:
        """Objects of one definition, in another version, in their order.

        Args:
            version: the wanted apiVersion.

        Raises:
            StatusError: 500, the webhook has no answer, or a wrong one.
        """
        converted: list[Object] = []
        for start in range(0, len(objects), MAX_OBJECTS):
            part = objects[start : start + MAX_OBJECTS]
            converted += await self._ask(custom, part, version)
        return converted

    async def _ask(self, custom: CustomKind, objects: Sequence[Object], version: str) -> list[Object]:
        # Imported here: what calls webhooks reads Services from the cache, and the cache reads this.
        from gitkube.api.webhooks.caller import WebhookCallError

        assert custom.webhook is not None
        offered = custom.webhook.get("conversionReviewVersions") or ()
        review_version = next((one for one in _REVIEW_VERSIONS if one in offered), _REVIEW_VERSIONS[0])
        uid = new_uid(self._rng)
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"{_GROUP}/{review_version}",
            "request": {"uid": uid, "desiredAPIVersion": version, "objects": list(objects)},
        }
        try:
            answer = await self._caller.call(custom.webhook.get("clientConfig") or {}, review, TIMEOUT_S)
            given = _objects_of(answer, uid, len(objects))
            return [
                _checked(custom, before, after, version) for before, after in zip(objects, given, strict=True)
            ]
        except (WebhookCallError, _WrongAnswer) as error:
            what = f"{objects[0].get('apiVersion')}, Kind={objects[0].get('kind')}"
            why = str(error).removeprefix("failed to call webhook: ")
            text = f"conversion webhook for {what} failed: {why}"
            raise StatusError(500, "", text) from error  # without a reason, as Kubernetes


class _WrongAnswer(Exception):
    """What a webhook answered cannot be taken."""


def _objects_of(answer: Object, uid: str, count: int) -> list[Any]:
    response = answer.get("response")
    if answer.get("kind") != "ConversionReview" or not isinstance(response, dict):
        raise _WrongAnswer("expected a ConversionReview with a response")
    if response.get("uid") != uid:
        raise _WrongAnswer(f"expected response.uid={uid!r}, got {response.get('uid')!r}")
    result = response.get("result")
    status = result.get("status") if isinstance(result, dict) else None
    if status != "Success":
        said = result.get("message") if isinstance(result, dict) else ""
        raise _WrongAnswer(
            str(said or f"response.result.status was {str(status or '')!r}, not Success")[:500]
        )
    objects = response.get("convertedObjects")
    if not isinstance(objects, list) or len(objects) != count:
        found = len(objects) if isinstance(objects, list) else 0
        raise _WrongAnswer(f"expected {count} converted objects, got {found}")
    return objects


def _checked(custom: CustomKind, before: Object, after: Any, version: str) -> Object:
    """A converted object, with the metadata that is not the webhook's put back."""
    metadata = after.get("metadata") if isinstance(after, dict) else None
    if not isinstance(after, dict) or not isinstance(metadata, dict):
        raise _WrongAnswer("invalid converted object: metadata is missing")
    if after.get("apiVersion") != version or after.get("kind") != before.get("kind"):
        got = f"{after.get('apiVersion')}, Kind={after.get('kind')}"
        raise _WrongAnswer(
            f"invalid converted object: expected {version}, Kind={before.get('kind')}, got {got}"
        )
    original = before["metadata"]
    for field in ("name", "namespace", "uid"):
        if metadata.get(field) != original.get(field):
            raise _WrongAnswer(f"invalid converted object: metadata.{field} must not change")
    kept = {key: value for key, value in original.items() if key not in ("labels", "annotations")}
    for field in ("labels", "annotations"):
        value = metadata.get(field)
        if value is None:
            continue
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise _WrongAnswer(f"invalid converted object: metadata.{field} must be a map of texts")
        kept[field] = value
    converted: Object = pruned(custom.versions.get(version, custom.schema), after)
    converted["metadata"] = kept
    return converted
