"""What a commit would change in the cluster, before it does.

The API itself says what an apply would give (a dry run with the same code that applies), and the answer is
compared with what is live, so defaults and spellings show as no change. Beside the changes stand what would
be deleted by the inventory, and the brake: a commit that deletes much, or a namespace with things in it,
must say so in its message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.api.client import Client
from gitkube.api.errors import StatusError, is_not_found, is_outage
from gitkube.gitops.check import Ref
from gitkube.gitops.desired import FIELD_MANAGER, TEMPLATE_HASH, Desired
from gitkube.gitops.difference import FieldChange, differences
from gitkube.gitops.problem import Place, Problem, printable
from gitkube.objects import kinds, meta
from gitkube.objects.kinds import Kind
from gitkube.objects.types import Object
from gitkube.objects.walk import steps_of

ALLOW_DELETE = "gitkube-allow-delete"
BRAKE_SHARE = 0.5
BRAKE_OBJECTS = 3
"""A commit may delete this many, or this share of all, without a word."""
CONCURRENCY = 16
MAX_FIELDS_SHOWN = 6
MAX_CHANGES_SHOWN = 60

CREATE, CHANGE, RECREATE, DELETE = "create", "change", "recreate", "delete"
_SIGNS = {CREATE: "+", CHANGE: "~", RECREATE: "±", DELETE: "-"}
_FOLLOWERS = (kinds.EVENT, kinds.ENDPOINT_SLICE, kinds.ENDPOINTS, kinds.LEASE)
"""They come and go with others, and are not what a namespace holds."""
_ALWAYS_THERE = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}


@dataclass(frozen=True)
class Entry:
    """One line of the inventory: an object that came from git."""

    ref: Ref
    uid: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Change:
    action: str
    ref: Ref
    place: Place
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True)
class Plan:
    changes: tuple[Change, ...]
    unchanged: int
    problems: tuple[Problem, ...]

    def of(self, action: str) -> list[Change]:
        return [change for change in self.changes if change.action == action]


async def make_plan(
    client: Client,
    desired: Mapping[Ref, Desired],
    inventory: Iterable[Entry],
    *,
    message: str = "",
    unchanged: Collection[Ref] = (),
    commit_place: Place | None = None,
    stored_kinds: Sequence[Kind] = kinds.BUILT_IN,
) -> Plan:
    """Compare what a commit wants with what is live.

    Args:
        inventory: what came from git until now.
        message: the commit's, in which the word that allows deletions is looked for.
        unchanged: objects known to be in force as they are wanted; they are not asked about.
        stored_kinds: all that a namespace may have in it.
        commit_place: where a problem of the commit as a whole is said to be.

    Raises:
        StatusError: the API cannot be asked.
    """
    gate = asyncio.Semaphore(CONCURRENCY)
    new_namespaces = {ref.name for ref in desired if ref.kind == kinds.NAMESPACE}
    definitions = {ref.name for ref in desired if ref.kind == kinds.CUSTOM_RESOURCE_DEFINITION}

    async def one(wanted: Desired) -> tuple[Change | None, list[Problem]]:
        async with gate:
            return await _compare(client, wanted, new_namespaces, definitions)

    asked = [wanted for ref, wanted in desired.items() if ref not in unchanged]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(wanted)) for wanted in asked]
    changes: list[Change] = []
    problems: list[Problem] = []
    for task in tasks:
        change, found = task.result()
        problems += found
        if change is not None:
            changes.append(change)
    old = list(inventory)
    deleted = [entry for entry in old if entry.ref not in desired]
    live_deleted = [entry for entry in deleted if await live_entry(client, entry) is not None]
    changes += [Change(DELETE, entry.ref, _place_of(entry.origin)) for entry in live_deleted]
    place = commit_place or Place(".")
    brake = await deletion_brake(client, live_deleted, old, message, place, stored_kinds)
    if brake is not None:
        problems.append(brake)
    same = len(desired) - sum(1 for change in changes if change.action != DELETE)
    return Plan(tuple(changes), same, tuple(problems))


async def live_entry(client: Client, entry: Entry) -> Object | None:
    """The live object of an inventory entry, unless it is gone, going, or another of the same name."""
    try:
        live = await client.get(entry.ref.kind, entry.ref.name, entry.ref.namespace)
    except StatusError as error:
        if is_not_found(error):
            return None
        raise
    if entry.uid and meta.uid(live) != entry.uid:
        return None
    return None if meta.is_deleting(live) else live


async def deletion_brake(
    client: Client,
    deleted: Sequence[Entry],
    inventory: Sequence[Entry],
    message: str,
    place: Place,
    stored_kinds: Sequence[Kind] = kinds.BUILT_IN,
) -> Problem | None:
    """Why these deletions need a word in the commit's message, or None."""
    if ALLOW_DELETE in message or not deleted:
        return None
    hint = f'if that is meant, put the word "{ALLOW_DELETE}" into the commit message'
    if len(deleted) > BRAKE_OBJECTS and len(deleted) > BRAKE_SHARE * len(inventory):
        text = f"this commit deletes {len(deleted)} of the {len(inventory)} objects that came from git"
        return Problem(place, text, hint=hint)
    for entry in deleted:
        if entry.ref.kind == kinds.NAMESPACE:
            inside = await _things_in(client, entry.ref.name, stored_kinds)
            if inside:
                text = f"this commit deletes the namespace {entry.ref.name} with {inside} and all else in it"
                return Problem(place, text, hint=hint)
    return None


async def _things_in(client: Client, namespace: str, stored_kinds: Sequence[Kind]) -> str:
    for kind in stored_kinds:
        if not kind.namespaced or kind in _FOLLOWERS:
            continue
        for obj in (await client.list(kind, namespace, limit=5)).items:
            if (kind.kind, meta.name(obj)) not in _ALWAYS_THERE:
                return f"{kind.kind} {meta.name(obj)}"
    return ""


async def _compare(
    client: Client, wanted: Desired, new_namespaces: Collection[str], definitions: Collection[str]
) -> tuple[Change | None, list[Problem]]:
    ref = wanted.ref
    try:
        live: Object | None = await client.get(ref.kind, ref.name, ref.namespace)
    except StatusError as error:
        if not is_not_found(error):
            raise
        live = None
    if live is not None and needs_recreation(wanted, live):
        return Change(RECREATE, ref, wanted.place), []
    try:
        result = await client.apply(
            ref.kind, wanted.object, field_manager=FIELD_MANAGER, force=True, dry_run=True
        )
    except StatusError as error:
        if live is None and is_not_found(error) and ref.namespace in new_namespaces:
            return Change(CREATE, ref, wanted.place), []  # its namespace comes with the same commit
        custom = ref.kind.custom
        if live is None and is_not_found(error) and custom is not None and custom.definition in definitions:
            return Change(CREATE, ref, wanted.place), []  # and so does its kind
        if is_outage(error):
            raise
        return None, problems_of(error, wanted)
    if live is None:
        return Change(CREATE, ref, wanted.place), []
    fields = differences(live, result)
    if not fields:
        return None, []
    return Change(CHANGE, ref, wanted.checked.manifest.place_of(fields[0].path), tuple(fields)), []


def needs_recreation(wanted: Desired, live: Object) -> bool:
    """A Job's template cannot be changed: another template is another Job."""
    if wanted.ref.kind != kinds.JOB:
        return False
    had = meta.annotations(live).get(TEMPLATE_HASH)
    return had is not None and had != meta.annotations(wanted.object).get(TEMPLATE_HASH)


def problems_of(error: StatusError, wanted: Desired) -> list[Problem]:
    """The API's refusal of an object, at the lines of the fields that it names."""
    given: list[dict[str, Any]] = (error.details or {}).get("causes") or []
    causes = [cause for cause in given if cause.get("field")]  # webhooks and policies name none
    if not causes:
        return [wanted.checked.problem(error.message)]
    return [
        wanted.checked.problem(
            f"{cause.get('field')}: {cause.get('message')}", steps_of(cause.get("field", ""))
        )
        for cause in causes
    ]


def format_plan(plan: Plan) -> list[str]:
    """The lines of a plan: sign, object, what changes, and the line in git."""
    if not plan.changes:
        return ["nothing changes"]
    shown = plan.changes[:MAX_CHANGES_SHOWN]
    kind_width = max(len(change.ref.kind.kind) for change in shown)
    rows: list[tuple[str, str, str]] = []
    for change in shown:
        name = f"{change.ref.namespace}/{change.ref.name}" if change.ref.namespace else change.ref.name
        head = f"{_SIGNS[change.action]} {change.ref.kind.kind:<{kind_width}} {name}"
        texts = [str(field) for field in change.fields[:MAX_FIELDS_SHOWN]]
        if len(change.fields) > MAX_FIELDS_SHOWN:
            texts.append(f"… and {len(change.fields) - MAX_FIELDS_SHOWN} more fields")
        if change.action == RECREATE:
            texts = ["runs again: its template changed"]
        place = f"{change.place.path}:{change.place.line}" if change.place.line else change.place.path
        rows.append((head, texts[0] if texts else "", place))
        rows += [("", text, "") for text in texts[1:]]
    head_width = min(48, max(len(head) for head, _, _ in rows))
    text_width = min(60, max(len(text) for _, text, _ in rows))
    lines = [f"{head:<{head_width}}  {text:<{text_width}}  {place}".rstrip() for head, text, place in rows]
    if len(plan.changes) > len(shown):
        lines.append(f"… and {len(plan.changes) - len(shown)} more objects")
    return [printable(line) for line in lines]


def _place_of(origin: str) -> Place:
    path, _, line = origin.rpartition(":")
    return Place(path, int(line)) if path and line.isdigit() else Place(origin)
