"""The verbs over HTTP: one request to a collection, an object or a subresource becomes one call of `Verbs`.

`Resources.handle` reads like the table of methods it is: what the path names, which method, which verb.
Bodies, query and Accept header are read by the modules beside this one; how the answer looks is `forms.py`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gitkube.api.authorization import User
from gitkube.api.client import PatchType
from gitkube.api.errors import StatusError, bad_request, is_not_found
from gitkube.api.requests import Context, VerbsApi
from gitkube.objects import meta
from gitkube.objects.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CSI_DRIVER,
    CSI_NODE,
    ENDPOINTS,
    EVENT,
    LEASE,
    LIMIT_RANGE,
    NAMESPACE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_TEMPLATE,
    QUESTIONS,
    RESOURCE_QUOTA,
    ROLE,
    ROLE_BINDING,
    SERVICE,
    SERVICE_ACCOUNT,
    STORAGE_CLASS,
    VOLUME_ATTACHMENT,
    Kind,
)
from gitkube.objects.types import Object
from gitkube.server import queries
from gitkube.server.answers import add_warnings, json_answer
from gitkube.server.audit.trail import note_admission
from gitkube.server.bodies import content_type, parse_json, parse_yaml, read_body, read_object, read_value
from gitkube.server.discovery import no_such_page
from gitkube.server.forms import Shaper
from gitkube.server.negotiation import wanted_form
from gitkube.server.paths import Target, method_not_allowed
from gitkube.server.pods import PodEndpoints
from gitkube.server.proxy import ProxyEndpoints
from gitkube.server.watches import Watches

APPLY_PATCH = "application/apply-patch+yaml"
_PATCH_TYPES = {patch_type.value: patch_type for patch_type in PatchType}
_QUESTIONS = frozenset(QUESTIONS)
_POST_SUBRESOURCES = ("binding", "eviction", "token")
_DELETED_OBJECT_IS_RETURNED = frozenset(
    {
        POD, SERVICE, SERVICE_ACCOUNT, NAMESPACE, RESOURCE_QUOTA, POD_TEMPLATE, PERSISTENT_VOLUME,
        PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS, CSI_NODE, CSI_DRIVER, VOLUME_ATTACHMENT,
    }
)  # fmt: skip
"""For these the answer to a finished DELETE is the object; for others a Status that names it."""

_OLD_ENDPOINTS = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
_MADE_BY_PUT = frozenset(
    {ENDPOINTS, EVENT, LEASE, LIMIT_RANGE, ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING}
)
"""Kinds of which a PUT makes the object that is not there; of others it is a mistake."""

Handler = Callable[[web.Request, Target, Context], Awaitable[web.StreamResponse]]


class Resources:
    def __init__(
        self, verbs: VerbsApi, watches: Watches, pods: PodEndpoints, proxy: ProxyEndpoints, shaper: Shaper
    ) -> None:
        self._verbs = verbs
        self._watches = watches
        self._pods = pods
        self._proxy = proxy
        self._shaper = shaper

    async def handle(self, request: web.Request, target: Target, user: User) -> web.StreamResponse:
        """Serve a request for a resource.

        Raises:
            StatusError: whatever it is refused for.
        """
        context = queries.request_context(
            request.query, user, request.headers.get("User-Agent", ""), request.method
        )
        if target.kind.custom is not None and target.kind.custom.deprecation:
            context.warnings.append(target.kind.custom.deprecation)
        elif target.kind is ENDPOINTS:
            context.warnings.append(_OLD_ENDPOINTS)
        note_admission(request, context.audit_annotations)
        handler = self._handler(request, target)
        try:
            response = await handler(request, target, context)
        except StatusError as error:
            error.warnings = context.warnings
            raise
        if context.warnings and not response.prepared:
            add_warnings(response, context.warnings)
        return response

    def _handler(self, request: web.Request, target: Target) -> Handler:
        method = request.method
        if target.kind in _QUESTIONS:
            return self._create if method == "POST" and not target.name else self._not_allowed
        if target.subresource in self._pods.subresources:
            return self._pods.handle
        if target.subresource == "proxy":
            return self._proxy.handle
        if target.subresource in _POST_SUBRESOURCES:
            return self._post_subresource if method == "POST" else self._not_allowed
        if target.subresource == "finalize":
            return self._update if method == "PUT" else self._not_allowed
        if target.subresource:
            return {"GET": self._get_subresource, "PUT": self._update, "PATCH": self._patch}.get(
                method, self._not_allowed
            )
        if target.is_watch:
            return self._watches.handle if method == "GET" else self._not_allowed
        if method == "PUT" and target.kind.custom is not None and not target.name:
            raise bad_request("name must be provided")
        if (
            method == "POST"
            and target.kind.custom is not None
            and (target.name or not target.kind.namespaced)
        ):
            return self._create  # of custom resources, the name in a path counts for nothing here
        if target.name:
            return {
                "GET": self._get,
                "PUT": self._update,
                "PATCH": self._patch,
                "DELETE": self._delete,
            }.get(method, self._not_allowed)
        if method == "GET":
            return self._watches.handle if queries.flag(request.query, "watch") else self._list
        if target.kind.namespaced and not target.namespace and target.kind.custom is not None:
            return self._no_page
        if target.kind.namespaced and not target.namespace:
            return self._not_allowed
        if method == "POST":
            return self._create
        if method == "DELETE" and "deletecollection" in target.kind.verbs:
            return self._delete_collection
        return self._not_allowed

    async def _no_page(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        return no_such_page()

    async def _not_allowed(
        self, request: web.Request, target: Target, context: Context
    ) -> web.StreamResponse:
        kind = target.kind
        raise method_not_allowed(
            {"group": kind.group, "kind": kind.plural} if kind.custom is not None else {}
        )

    # ------------------------------------------------------------------ reading

    async def _get(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        form = wanted_form(request.headers.get("Accept", ""))
        obj = await self._verbs.get(
            context,
            target.kind,
            target.namespace,
            target.name,
            resource_version=request.query.get("resourceVersion", ""),
        )
        return json_answer(request, self._shaper.one(target.kind, obj, form, _include(request)))

    async def _list(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        form = wanted_form(request.headers.get("Accept", ""))
        options = queries.list_options(request.query)
        found = await self._verbs.list(context, target.kind, target.namespace, options)
        return json_answer(request, self._shaper.many(target.kind, found, form, _include(request)))

    async def _get_subresource(
        self, request: web.Request, target: Target, context: Context
    ) -> web.StreamResponse:
        form = wanted_form(request.headers.get("Accept", ""))
        obj = await self._verbs.get_subresource(
            context, target.kind, target.namespace, target.name, target.subresource
        )
        if target.subresource == "scale":
            return json_answer(request, self._shaper.scale(obj, form, _include(request)))
        return json_answer(request, self._shaper.one(target.kind, obj, form, _include(request)))

    # ------------------------------------------------------------------ writing

    async def _create(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        is_kept = target.kind not in _QUESTIONS
        form = wanted_form(request.headers.get("Accept", ""), has_table=is_kept)
        obj = await read_object(request, context, is_decoded=True)
        created = await self._verbs.create(context, target.kind, target.namespace, obj)
        answer = self._shaper.one(target.kind, created, form, _include(request))
        return json_answer(request, answer, status=201)

    async def _update(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        form = wanted_form(request.headers.get("Accept", ""))
        obj = await read_object(request, context, is_decoded=not target.subresource)
        try:
            updated = await self._verbs.update(
                context, target.kind, target.namespace, target.name, obj, subresource=target.subresource
            )
        except StatusError as error:
            if not is_not_found(error) or target.kind not in _MADE_BY_PUT or target.subresource:
                raise
            created = await self._verbs.create(context, target.kind, target.namespace, obj)
            return self._written(request, target, created, form, status=201)
        return self._written(request, target, updated, form)

    async def _patch(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        form = wanted_form(request.headers.get("Accept", ""))
        type = content_type(request)
        if type == APPLY_PATCH:
            return await self._apply(request, target, context)
        is_strategic = type == PatchType.STRATEGIC.value
        if type not in _PATCH_TYPES or (is_strategic and target.kind.custom is not None):
            types = [one for one in _PATCH_TYPES if not is_strategic or one != type]
            supported = ", ".join([*types, APPLY_PATCH])
            text = "the body of the request was in an unknown format - accepted media types include: "
            raise StatusError(415, "UnsupportedMediaType", text + supported)
        if "force" in request.query:
            why = "Forbidden: may not be specified for non-apply patch"
            text = f'PatchOptions.meta.k8s.io "" is invalid: force: {why}'
            cause = {"reason": "FieldValueForbidden", "message": why, "field": "force"}
            details = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [cause]}
            raise StatusError(422, "Invalid", text, details=details)
        patch = parse_json(await read_body(request), context)
        patched = await self._verbs.patch(
            context,
            target.kind,
            target.namespace,
            target.name,
            patch,
            _PATCH_TYPES[type],
            subresource=target.subresource,
        )
        return self._written(request, target, patched, form)

    async def _apply(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        form = wanted_form(request.headers.get("Accept", ""))
        if not request.query.get("fieldManager"):
            why = "Required value: is required for apply patch"
            text = f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {why}'
            cause = {"reason": "FieldValueRequired", "message": why, "field": "fieldManager"}
            details = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [cause]}
            raise StatusError(422, "Invalid", text, details=details)
        obj = _apply_body(await read_body(request), context)
        applied, was_created = await self._verbs.apply(
            context,
            target.kind,
            target.namespace,
            target.name,
            obj,
            force=queries.flag(request.query, "force"),
            subresource=target.subresource,
        )
        return self._written(request, target, applied, form, status=201 if was_created else 200)

    def _written(
        self, request: web.Request, target: Target, obj: Object, form: Any, *, status: int = 200
    ) -> web.Response:
        if target.subresource == "scale":
            return json_answer(request, obj, status=status)
        return json_answer(
            request, self._shaper.one(target.kind, obj, form, _include(request)), status=status
        )

    async def _post_subresource(
        self, request: web.Request, target: Target, context: Context
    ) -> web.StreamResponse:
        body = await read_object(request, context)
        answer = await self._verbs.create_subresource(
            context, target.kind, target.namespace, target.name, target.subresource, body
        )
        return json_answer(request, answer, status=201)

    # ------------------------------------------------------------------ deleting

    async def _delete(self, request: web.Request, target: Target, context: Context) -> web.StreamResponse:
        wanted_form(request.headers.get("Accept", ""))  # what nobody could read is refused before it is done
        body = await _delete_body(request, context)
        options, is_dry_run = queries.delete_options(request.query, body)
        context = _with_dry_run(context, is_dry_run)
        last, is_gone = await self._verbs.delete(context, target.kind, target.namespace, target.name, options)
        if is_gone and target.kind not in _DELETED_OBJECT_IS_RETURNED:
            return json_answer(request, _deleted_status(target.kind, last))
        return json_answer(request, last, status=200 if is_gone else _status_of_waiting(request, body))

    async def _delete_collection(
        self, request: web.Request, target: Target, context: Context
    ) -> web.StreamResponse:
        form = wanted_form(request.headers.get("Accept", ""))
        selection = queries.list_options(request.query)
        options, is_dry_run = queries.delete_options(request.query, await _delete_body(request, context))
        context = _with_dry_run(context, is_dry_run)
        deleted = await self._verbs.delete_collection(
            context, target.kind, target.namespace, selection, options
        )
        return json_answer(request, self._shaper.many(target.kind, deleted, form, _include(request)))


def _include(request: web.Request) -> str:
    return request.query.get("includeObject", "")


def _apply_body(body: bytes, context: Context) -> Object:
    # Clients send JSON or YAML under the same type. JSON is tried first: it is what all of them send today.
    if body.lstrip()[:1] == b"{":
        try:
            value = parse_json(body, context)
        except StatusError:
            value = parse_yaml(body)  # a flow mapping of YAML also begins with a brace
    else:
        value = parse_yaml(body)
    if not isinstance(value, dict):
        raise bad_request("the body of an apply patch must be an object")
    return value


async def _delete_body(request: web.Request, context: Context) -> Object | None:
    if not await read_body(request):
        return None
    body = await read_value(request, context)
    if body is not None and not isinstance(body, dict):
        raise bad_request("the body of a DELETE must be DeleteOptions")
    if body and body.get("kind") not in (None, "", "DeleteOptions"):
        raise bad_request(f"the body of a DELETE must be DeleteOptions, not a {body['kind']}")
    return body


def _status_of_waiting(request: web.Request, body: Object | None) -> int:
    """Of the answer to a deletion that still waits: 202 for those who ask in the old way for the dependents
    to go, too, and 200 for everybody else. As Kubernetes, whose clients would not know it any other way."""
    if body is not None:
        return 202 if body.get("orphanDependents") is False else 200
    has_word = "orphanDependents" in request.query
    return 202 if has_word and not queries.flag(request.query, "orphanDependents") else 200


def _with_dry_run(context: Context, is_dry_run: bool) -> Context:
    if context.dry_run or not is_dry_run:
        return context
    return dataclasses.replace(context, dry_run=True)


def _deleted_status(kind: Kind, last: Object) -> Object:
    details = {"name": meta.name(last), "group": kind.group, "kind": kind.plural, "uid": meta.uid(last)}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }
