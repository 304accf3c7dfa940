"""What exactly is applied: a checked object plus what gitkube adds, in the wave it belongs to.

Three additions. A workload whose pods read ConfigMaps or Secrets of the commit carries a hash of their
content on its pod template, so that a changed value rolls the pods. A Job carries a hash of its template,
because its template cannot be changed: another hash means that it has to be made anew. And a container that
does not say otherwise tells the end of its log when it crashes, so that the pusher reads why. None holds a
commit id or a time, so a commit that changes nothing here changes nothing there. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitkube.gitops.check import Checked, Ref
from gitkube.gitops.problem import Place
from gitkube.gitops.unsupported import POD_SPECS
from gitkube.objects import kinds, pods
from gitkube.objects.types import Object

FIELD_MANAGER = "gitkube"
CONFIG_HASH = "gitkube.dev/config-hash"
TEMPLATE_HASH = "gitkube.dev/template-hash"

DEFINITIONS, NAMESPACES, CONFIGURATION, WORKLOADS, JOBS, ADMISSION = range(6)
WAVES = (DEFINITIONS, NAMESPACES, CONFIGURATION, WORKLOADS, JOBS, ADMISSION)
_WAVE_OF = {
    kinds.CUSTOM_RESOURCE_DEFINITION: DEFINITIONS,
    kinds.NAMESPACE: NAMESPACES,
    kinds.CONFIG_MAP: CONFIGURATION,
    kinds.SECRET: CONFIGURATION,
    kinds.SERVICE_ACCOUNT: CONFIGURATION,
    kinds.SERVICE: CONFIGURATION,
    kinds.ENDPOINT_SLICE: CONFIGURATION,
    kinds.ENDPOINTS: CONFIGURATION,
    kinds.JOB: JOBS,
    # Last, and the first to go: a webhook whose own workload is not there yet would stop it for ever.
    kinds.MUTATING_WEBHOOK_CONFIGURATION: ADMISSION,
    kinds.VALIDATING_WEBHOOK_CONFIGURATION: ADMISSION,
    kinds.MUTATING_ADMISSION_POLICY: ADMISSION,
    kinds.MUTATING_ADMISSION_POLICY_BINDING: ADMISSION,
    kinds.VALIDATING_ADMISSION_POLICY: ADMISSION,
    kinds.VALIDATING_ADMISSION_POLICY_BINDING: ADMISSION,
}
_ROLLS = (kinds.DEPLOYMENT, kinds.REPLICA_SET)


@dataclass(frozen=True)
class Desired:
    """One object as it is applied."""

    ref: Ref
    object: Object
    digest: str
    """Of `object`; equal digests need no second apply."""
    checked: Checked

    @property
    def place(self) -> Place:
        return self.checked.place

    @property
    def wave(self) -> int:
        return wave_of(self.ref)


def wave_of(ref: Ref) -> int:
    return _WAVE_OF.get(ref.kind, WORKLOADS)


def desired_objects(objects: Sequence[Checked]) -> dict[Ref, Desired]:
    """What to apply for a commit's objects, in the order of the waves."""
    by_ref = {one.ref: one.object for one in objects}
    found = []
    for one in objects:
        obj = one.object
        if one.ref.kind in _ROLLS:
            obj = _with_config_hash(obj, one.ref.namespace, by_ref)
        elif one.ref.kind == kinds.JOB:
            obj = _annotated(obj, ("metadata",), TEMPLATE_HASH, digest_of(obj["spec"].get("template")))
        elif one.ref.kind == kinds.CLUSTER_ROLE and obj.get("aggregationRule"):
            obj = {key: value for key, value in obj.items() if key != "rules"}  # a controller fills them in
        if one.ref.kind in POD_SPECS:
            obj = _telling_crashes(obj, POD_SPECS[one.ref.kind])
        found.append(Desired(one.ref, obj, digest_of(obj), one))
    found.sort(key=lambda one: one.wave)
    return {one.ref: one for one in found}


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, shortened to what an annotation needs."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _with_config_hash(obj: Object, namespace: str, by_ref: Mapping[Ref, Object]) -> Object:
    references = pods.references(pods.template_spec(obj))
    wanted = [Ref(kinds.CONFIG_MAP, namespace, name) for name in sorted(references.config_maps)]
    wanted += [Ref(kinds.SECRET, namespace, name) for name in sorted(references.secrets)]
    content = {
        str(ref): [by_ref[ref].get(part) for part in ("data", "binaryData", "stringData")]
        for ref in wanted
        if ref in by_ref
    }
    if not content:
        return obj
    return _annotated(obj, ("spec", "template", "metadata"), CONFIG_HASH, digest_of(content))


def _telling_crashes(obj: Object, path: Sequence[str]) -> Object:
    """A copy whose containers under the pod spec at `path` put the end of their log into their status."""
    if path:
        return {**obj, path[0]: _telling_crashes(obj.get(path[0]) or {}, path[1:])}
    return {
        **obj,
        **{
            name: [{"terminationMessagePolicy": "FallbackToLogsOnError", **each} for each in obj[name]]
            for name in ("initContainers", "containers")
            if obj.get(name)
        },
    }


def _annotated(obj: Object, path: tuple[str, ...], key: str, value: str) -> Object:
    """A copy with an annotation in the metadata at `path`; what is not on the way is shared."""
    if not path:
        return {**obj, "annotations": {**(obj.get("annotations") or {}), key: value}}
    return {**obj, path[0]: _annotated(obj.get(path[0]) or {}, path[1:], key, value)}
