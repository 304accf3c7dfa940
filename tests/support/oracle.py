"""Plays recorded requests to a real API server 1.20 against our verbs, below HTTP.

A case is a list of requests with the answers of the real server (`tests/oracle/*.jsonl.gz`). Here each
request is turned into a call of `Verbs`, and the answer compared: strings in angle brackets stand for what
differs from run to run (`<uid:1>` is bound by its first sight), fields that later releases added are left
out on both sides.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from gitkube.api import errors
from gitkube.api.authorization import User
from gitkube.api.client import PatchType
from gitkube.api.machinery import Api
from gitkube.api.requests import Context, FieldValidation, ListOptions
from gitkube.api.subresources import parse_delete_options
from gitkube.objects.kinds import Kind, by_resource

ROOT = Path(__file__).parents[1] / "oracle"
_ADMIN = User("admin", ("system:masters",), "admin")
_PLACEHOLDER = re.compile(r"<([a-zA-Z]+)(?::([a-z0-9]+))?>")
_WORDS = {"uid", "gen", "ip", "nodePort", "rv", "continue", "time", "any", "unix", "age"}
_NEWER_FIELDS = {
    "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy", "allocateLoadBalancerNodePorts", "clusterIPs",
    "completionMode", "suspend", "podReplacementPolicy", "manualSelector", "enableServiceLinks",
}  # fmt: skip
_NEWER_LABELS = {
    "kubernetes.io/metadata.name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name",
    "f:kubernetes.io/metadata.name",
}  # fmt: skip
_NEWER_GENERATION = {"Pod", "Job"}


def cases(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(ROOT / f"{name}.jsonl.gz", "rt") as lines:
        for line in lines:
            yield json.loads(line)


def lacks(case: dict[str, Any]) -> str:
    """What a case needs that is not there below HTTP, or ""."""
    if "compaction" in (case.get("needs") or []):
        return "a store that is compacted in between"
    for step in case["steps"]:
        query = parse_qs(step.get("query") or "", keep_blank_values=True)
        if step.get("headers") or step.get("accept") or step.get("stream"):
            return "headers or streams"
        if step.get("content_type", "").lower() not in _CONTENT_TYPES:
            return "the choice of a body's type"
        if any(len(values) > 1 for values in query.values()) or query.keys() & {
            "unknown",
            "pretty",
            "timeout",
        }:
            return "the check of the query"
        if query.get("dryRun", ["All"]) != ["All"] or query.get("force", ["true"])[0] not in (
            "true",
            "false",
        ):
            return "the check of the query"
        if "force" in query and "apply" not in step.get("content_type", ""):
            return "the check of the query"
        if (
            len(query.get("fieldManager", [""])[0]) > 128
            or not query.get("fieldManager", ["x"])[0].isprintable()
        ):
            return "the check of the query"
        if not query.get("gracePeriodSeconds", ["0"])[0].lstrip("-").isdigit():
            return "the check of the query"
        if not query.get("limit", ["0"])[0].lstrip("-").isdigit():
            return "the check of the query"
        if step["status"] in (405, 406, 415):
            return "the routes"
        body = step.get("body_text")
        if body is not None:
            try:
                json.loads(body)
            except ValueError:
                return "a reader for bodies that are no JSON"
    return ""


_CONTENT_TYPES = {"", "application/json", "application/apply-patch+yaml", *(type.value for type in PatchType)}


class Replay:
    """One case on one server."""

    def __init__(self, api: Api, case: dict[str, Any]) -> None:
        self._api = api
        self._case = case
        self._bound: dict[str, str] = {}

    async def differences(self) -> str:
        """ "" when every answer is the recorded one, else the first difference."""
        if namespace := self._case.get("namespace"):
            await self._call("POST", "/api/v1/namespaces", {}, {"metadata": {"name": namespace}}, "")
        for number, step in enumerate(self._case["steps"]):
            body = step.get("body", step.get("body_text"))
            if isinstance(body, str):
                try:
                    body = json.loads(body)
                except ValueError:
                    return f"step {number}: NOT JSON, belongs to the HTTP layer"
            status, answer = await self._call(
                step["method"],
                self._fill(step["path"]),
                parse_qs(self._fill(step.get("query") or ""), keep_blank_values=True),
                self._fill(body),
                step.get("content_type", ""),
            )
            where = f"step {number} {step['method']} {step['path']} {step.get('query', '')}"
            if step["status"] == 500 and 400 <= status < 500:
                continue  # what 1.20 calls its own failure is the client's mistake
            if status != step["status"]:
                wanted = (step.get("answer") or {}).get("message", "") if step.get("answer") else ""
                got = answer.get("message", "") if isinstance(answer, dict) else answer
                return f"{where}: status {step['status']} ({wanted!r}), got {status} ({got!r})"
            if "answer" in step and not step.get("stream") and not isinstance(answer, str):
                expected, given = _comparable(step["answer"]), _comparable(answer)
                if not self._case.get("managed_fields"):
                    _drop_managers(expected)
                    _drop_managers(given)
                else:
                    _order_managers(expected)
                    _order_managers(given)
                if difference := self._compare(expected, given, "", bool(step.get("answer_part"))):
                    return f"{where}: {difference}"
        return ""

    async def _call(
        self, method: str, path: str, query: dict[str, list[str]], body: Any, content_type: str
    ) -> tuple[int, Any]:
        try:
            return await self._dispatch(method, path, query, body, content_type)
        except errors.StatusError as error:
            return error.code, error.to_status()

    async def _dispatch(
        self, method: str, path: str, query: dict[str, list[str]], body: Any, content_type: str
    ) -> tuple[int, Any]:
        kind, namespace, name, subresource = _parse(path)
        verbs = self._api.verbs
        first = {key: values[0] for key, values in query.items()}
        context = Context(
            _ADMIN, first.get("fieldManager", ""), bool(first.get("dryRun")), FieldValidation.IGNORE
        )
        if not context.field_manager and "apply-patch" not in content_type:
            context = Context(_ADMIN, "oracle", context.dry_run, FieldValidation.IGNORE)
        selection = ListOptions(
            label_selector=first.get("labelSelector", ""),
            field_selector=first.get("fieldSelector", ""),
            limit=int(first.get("limit") or 0),
            continue_token=first.get("continue", ""),
            resource_version=first.get("resourceVersion", ""),
            resource_version_match=first.get("resourceVersionMatch", ""),
        )
        if method == "GET" and name:
            if subresource:
                return 200, await verbs.get_subresource(context, kind, namespace, name, subresource)
            version = first.get("resourceVersion", "")
            return 200, await verbs.get(context, kind, namespace, name, resource_version=version)
        if method == "GET":
            found = await verbs.list(context, kind, namespace, selection)
            return 200, _list_answer(kind, found)
        if method == "POST" and subresource:
            return 201, await verbs.create_subresource(context, kind, namespace, name, subresource, body)
        if method == "POST":
            return 201, await verbs.create(context, kind, namespace, body)
        if method == "PUT":
            return 200, await verbs.update(context, kind, namespace, name, body, subresource=subresource)
        if method == "PATCH" and "apply-patch" in content_type:
            force = first.get("force") == "true"
            obj, is_new = await verbs.apply(
                context, kind, namespace, name, body, force=force, subresource=subresource
            )
            return (201 if is_new else 200), obj
        if method == "PATCH":
            type = PatchType(content_type.split(";")[0])
            return 200, await verbs.patch(context, kind, namespace, name, body, type, subresource=subresource)
        options_body = dict(body or {})
        if "gracePeriodSeconds" in first:
            options_body.setdefault("gracePeriodSeconds", int(first["gracePeriodSeconds"]))
        if "propagationPolicy" in first:
            options_body.setdefault("propagationPolicy", first["propagationPolicy"])
        if "orphanDependents" in first:
            options_body.setdefault("orphanDependents", first["orphanDependents"] == "true")
        options = parse_delete_options(options_body)
        if method == "DELETE" and name:
            obj, is_gone = await verbs.delete(context, kind, namespace, name, options)
            if is_gone and kind.plural not in ("pods", "services"):
                details = {
                    "name": name,
                    "group": kind.group,
                    "kind": kind.plural,
                    "uid": obj["metadata"]["uid"],
                }
                details = {key: value for key, value in details.items() if value}
                status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
                return 200, {**status, "details": details}
            return 200, obj
        deleted = await verbs.delete_collection(context, kind, namespace, selection, options)
        return 200, _list_answer(kind, deleted)

    def _fill(self, value: Any) -> Any:
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda m: self._bound.get(m.group(), m.group()), value)
        if isinstance(value, dict):
            return {self._fill(key): self._fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        return value

    def _compare(self, expected: Any, given: Any, path: str, part: bool) -> str:
        if expected == "<any>":
            return ""
        if isinstance(expected, dict) and isinstance(given, dict):
            if expected.get("kind") == "Status" and expected.get("status") == "Failure":
                expected, given = _essence(expected), _essence(given)
            for key in sorted({*expected, *given}):
                here = f"{path}/{key}"
                if key == "details" and not expected.get(key) and not given.get(key):
                    continue
                if key not in given:
                    if part and expected[key] is None:
                        continue
                    return f"{here} missing, wanted {expected[key]!r}"
                if key not in expected:
                    if part:
                        continue
                    return f"{here} is surplus: {given[key]!r}"
                if found := self._compare(expected[key], given[key], here, part):
                    return found
            return ""
        if isinstance(expected, list) and isinstance(given, list):
            if len(expected) != len(given):
                return f"{path}: {len(expected)} elements wanted, got {len(given)}: {given!r}"[:400]
            for index, (left, right) in enumerate(zip(expected, given, strict=True)):
                if found := self._compare(left, right, f"{path}/{index}", part):
                    return found
            return ""
        if isinstance(expected, str) and _PLACEHOLDER.search(expected):
            return "" if self._fits(expected, str(given)) else f"{path}: {expected!r} wanted, got {given!r}"
        same = expected == given and isinstance(expected, bool) == isinstance(given, bool)
        return "" if same else f"{path}: {expected!r} wanted, got {given!r}"

    def _fits(self, expected: str, given: str) -> bool:
        names: list[str] = []
        pattern, last = "", 0
        for match in _PLACEHOLDER.finditer(expected):
            if match.group(1) not in _WORDS:
                continue
            pattern += re.escape(expected[last : match.start()]) + "(.*?)"
            names.append(match.group())
            last = match.end()
        found = re.fullmatch(pattern + re.escape(expected[last:]), given, re.DOTALL)
        if found is None:
            return False
        for name, value in zip(names, found.groups(), strict=True):
            if ":" not in name or name in ("<rv:list>",) or name.startswith("<continue"):
                if name.startswith("<continue:"):
                    self._bound[name] = value
                continue
            if self._bound.setdefault(name, value) != value:
                return False
        return True


def _parse(path: str) -> tuple[Kind, str, str, str]:
    parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and by_resource(group, version, rest[2]) is not None:
        namespace, rest = rest[1], rest[2:]
    kind = by_resource(group, version, rest[0])
    if kind is None:
        raise errors.StatusError(404, "NotFound", "the server could not find the requested resource")
    return kind, namespace, rest[1] if len(rest) > 1 else "", rest[2] if len(rest) > 2 else ""


def _list_answer(kind: Kind, found: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"resourceVersion": found.resource_version}
    if found.continue_token:
        metadata["continue"] = found.continue_token
    if found.remaining is not None:
        metadata["remainingItemCount"] = found.remaining
    items = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in found.items]
    return {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": metadata, "items": items}


def _comparable(value: Any, kind: str = "") -> Any:
    """Without what a later release has more, and without the nulls that it no longer writes."""
    if isinstance(value, dict):
        kind = str(value.get("kind") or kind)
        result = {}
        for key, item in value.items():
            if key in _NEWER_FIELDS or key in _NEWER_LABELS or key.removeprefix("f:") in _NEWER_FIELDS:
                continue
            if item is None and key in ("creationTimestamp", "lastProbeTime", "lastTransitionTime"):
                continue
            if key in ("generation", "observedGeneration") and kind in _NEWER_GENERATION:
                continue
            item = _comparable(item, kind)
            if item == {} and key in ("labels", "f:labels", "f:metadata"):
                continue
            result[key] = item
        return result
    if isinstance(value, list):
        return [_comparable(item, kind) for item in value]
    return value


def _essence(status: dict[str, Any]) -> dict[str, Any]:
    """What programs read of a refusal. The words are each server's own, and so is how often it says them."""
    causes = (status.get("details") or {}).get("causes") or []
    places = sorted({f"{cause.get('reason')} {cause.get('field')}" for cause in causes})
    return {"reason": status.get("reason"), "code": status.get("code"), "causes": places}


def _drop_managers(value: Any) -> None:
    for metadata in _metadatas(value):
        metadata.pop("managedFields", None)


def _order_managers(value: Any) -> None:
    for metadata in _metadatas(value):
        for entry in metadata.get("managedFields") or []:
            entry.pop("subresource", None)
        if isinstance(metadata.get("managedFields"), list):
            metadata["managedFields"].sort(
                key=lambda entry: (
                    entry.get("operation", ""),
                    entry.get("manager", ""),
                    entry.get("apiVersion", ""),
                )
            )


def _metadatas(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, dict):
        return
    if isinstance(value.get("metadata"), dict):
        yield value["metadata"]
    for item in value.get("items") or []:
        yield from _metadatas(item)
