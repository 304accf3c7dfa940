"""A Deployment's history: which ReplicaSet is which revision, and what a new one looks like.

Each template that a Deployment ever had (and still keeps) is one ReplicaSet, found by comparing templates;
its name carries a hash of the template, salted when two templates collide. Going back to an earlier template
makes its ReplicaSet the newest revision again: that is all that `kubectl rollout undo` needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from gitkube.control.rollout import Part
from gitkube.objects import meta
from gitkube.objects.types import Object

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    (
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    )
)
_SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' letters for generated names: no vowels, so no words."""
_HASH_CHARS = 10
_HISTORY_MAX_CHARS = 2000


def template_hash(template: Object, collision_count: int) -> str:
    """A short name for a template, the same for equal templates and in every process."""
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"))
    number = int.from_bytes(hashlib.sha256(f"{collision_count}\0{canonical}".encode()).digest()[:8], "big")
    characters = []
    for _ in range(_HASH_CHARS):
        number, remainder = divmod(number, len(_SAFE_ALPHABET))
        characters.append(_SAFE_ALPHABET[remainder])
    return "".join(characters)


def is_same_template(one: Object, other: Object) -> bool:
    """Whether two templates are equal but for the hash label."""
    return _without_hash(one) == _without_hash(other)


def find_new(deployment: Object, replica_sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet of the present template: the oldest, should there be two."""
    template = deployment["spec"]["template"]
    for replica_set in sorted(replica_sets, key=_age_key):
        if is_same_template(template, replica_set["spec"]["template"]):
            return replica_set
    return None


def revision_of(replica_set: Object) -> int:
    """Its number in the history; 0 without."""
    text = meta.annotations(replica_set).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def next_revision(old: Sequence[Object]) -> int:
    """The number of whatever comes after these."""
    return max((revision_of(replica_set) for replica_set in old), default=0) + 1


def new_replica_set(deployment: Object, hash_: str, replicas: int, annotations: Mapping[str, str]) -> Object:
    """The ReplicaSet for the present template."""
    spec = deployment["spec"]
    template = spec["template"]
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), HASH_LABEL: hash_}
    selector = spec.get("selector") or {}
    new_spec: Object = {
        "replicas": replicas,
        "selector": {
            **selector,
            "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: hash_},
        },
        "template": {**template, "metadata": {**metadata, "labels": labels}},
    }
    if spec.get("minReadySeconds"):
        new_spec["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta.name(deployment)}-{hash_}",
            "namespace": meta.namespace(deployment),
            "labels": labels,
            "annotations": dict(annotations),
            "ownerReferences": [meta.owner_reference(deployment)],
        },
        "spec": new_spec,
    }


def annotations_for(
    deployment: Object, replica_set: Object | None, revision: int, desired: int, max_replicas: int
) -> dict[str, str]:
    """What the newest ReplicaSet's annotations should be: the Deployment's, and where it stands."""
    present = dict(meta.annotations(replica_set)) if replica_set is not None else {}
    annotations = present | {
        key: value for key, value in meta.annotations(deployment).items() if key not in _NOT_COPIED
    }
    before = present.get(REVISION)
    if before is None or (before.isdigit() and int(before) < revision):
        annotations[REVISION] = str(revision)
        if before is not None:
            history = [one for one in present.get(REVISION_HISTORY, "").split(",") if one]
            joined = ",".join([*history, before])
            while len(joined) > _HISTORY_MAX_CHARS:
                joined = joined.partition(",")[2]
            annotations[REVISION_HISTORY] = joined
    annotations[DESIRED_REPLICAS] = str(desired)
    annotations[MAX_REPLICAS] = str(max_replicas)
    return annotations


def to_clean_up(old: Sequence[Object], limit: int | None) -> list[Object]:
    """Old ReplicaSets beyond the history limit that hold nothing any more, the oldest revisions first."""
    if limit is None:
        return []
    kept = [replica_set for replica_set in old if not meta.is_deleting(replica_set)]
    surplus = len(kept) - limit
    if surplus <= 0:
        return []
    oldest = sorted(kept, key=lambda one: (revision_of(one), _age_key(one)))[:surplus]
    return [replica_set for replica_set in oldest if _is_empty(replica_set)]


def _is_empty(replica_set: Object) -> bool:
    status = replica_set.get("status") or {}
    is_observed = meta.generation(replica_set) <= meta.observed_generation(replica_set)
    return replica_set["spec"].get("replicas") == 0 and not status.get("replicas") and is_observed


def _without_hash(template: Object) -> Object:
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    rest = {key: value for key, value in metadata.items() if key != "labels" and value is not None}
    return {**template, "metadata": {**rest, "labels": labels}}


def part_of(replica_set: Object) -> Part:
    """A ReplicaSet as the arithmetic of rollouts sees it."""
    annotations = meta.annotations(replica_set)

    def number(key: str) -> int | None:
        text = annotations.get(key, "")
        return int(text) if text.isdigit() else None

    return Part(
        meta.name(replica_set),
        int(replica_set["spec"].get("replicas") or 0),
        int((replica_set.get("status") or {}).get("availableReplicas") or 0),
        meta.created_at_s(replica_set),
        number(MAX_REPLICAS),
        number(DESIRED_REPLICAS),
    )


def _age_key(replica_set: Object) -> tuple[float, str]:
    return (meta.created_at_s(replica_set), meta.name(replica_set))
