"""Brings a Deployment's pods from one template to the next.

A look: claim the ReplicaSets that are ours; find the one of the present template, or make it; then move by
the strategy. RollingUpdate takes one step towards the walls of `rollout.py` and returns: the next change of a
pod brings it back here. Recreate waits until no old pod is left. Paused and scaled Deployments only share out
their replicas. Last, always: history beyond its limit goes, and the status says what is seen.

Nothing is remembered between looks; the revision, the sizes and the progress lie in annotations and status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gitkube.api.errors import StatusError, is_already_exists, is_conflict, is_not_found
from gitkube.control import deployment_status, revisions, rollout
from gitkube.control.claims import claim
from gitkube.control.context import BY_CONTROLLER, Context, Controller, controller_key
from gitkube.control.pod_control import is_namespace_ending
from gitkube.control.replicaset import wanted_replicas
from gitkube.control.rollout import Part
from gitkube.objects import conditions, meta, pods
from gitkube.objects.conditions import Condition
from gitkube.objects.kinds import DEPLOYMENT, POD, REPLICA_SET
from gitkube.objects.labels import selector_of
from gitkube.objects.types import Object


@dataclass(slots=True)
class _Look:
    """One Deployment with its ReplicaSets, as this look goes on."""

    deployment: Object
    new: Object | None
    old: list[Object]
    found: Condition | None = None
    """What to say about the new ReplicaSet in Progressing."""
    desired: int = field(init=False)
    limits: rollout.Fences = field(init=False)

    def __post_init__(self) -> None:
        self.desired = wanted_replicas(self.deployment)
        self.limits = rollout.fences(self.strategy.get("rollingUpdate"), self.desired)

    @property
    def strategy(self) -> Mapping[str, Any]:
        return self.deployment["spec"].get("strategy") or {}

    @property
    def is_rolling(self) -> bool:
        return str(self.strategy.get("type", "RollingUpdate")) == "RollingUpdate"

    @property
    def max_replicas(self) -> int:
        return self.desired + (self.limits.max_surge if self.is_rolling else 0)

    def everyone(self) -> list[Object]:
        return [*self.old, *([self.new] if self.new is not None else [])]


class DeploymentController(Controller):
    name = "deployment-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._deployments = context.informer(DEPLOYMENT)
        self._replica_sets = context.informer(REPLICA_SET)
        self._pods = context.informer(POD)
        self._events = context.recorder(self.name)
        self._deployments.add_handler(self.enqueue_changed)
        self._replica_sets.add_handler(self._on_replica_set)
        self._pods.add_handler(self._on_pod)

    async def reconcile(self, key: str) -> float | None:
        """One look at one Deployment."""
        namespace, name = meta.split_key(key)
        deployment = self._deployments.get(name, namespace)
        if deployment is None:
            return None
        selector = selector_of(deployment["spec"].get("selector"))
        owned = await claim(
            self.client, DEPLOYMENT, deployment, REPLICA_SET, selector, self._candidates(deployment)
        )
        new = revisions.find_new(deployment, owned)
        look = _Look(deployment, new, [one for one in owned if one is not new])
        if not meta.is_deleting(deployment):
            await self._move(look)
        status = await self._write_status(look)
        return self._next_look_s(deployment, status)

    def _candidates(self, deployment: Object) -> list[Object]:
        namespace = meta.namespace(deployment)
        own = self._replica_sets.by_index(BY_CONTROLLER, controller_key(namespace, meta.uid(deployment)))
        return own + self._replica_sets.by_index(BY_CONTROLLER, controller_key(namespace, ""))

    async def _move(self, look: _Look) -> None:
        """One step by the strategy."""
        if look.deployment["spec"].get("paused"):
            look.found = deployment_status.paused(look.deployment, is_paused=True)
            await self._share_out(look)
        elif _is_scaling(look):
            look.found = deployment_status.paused(look.deployment, is_paused=False)
            await self._share_out(look)
        elif look.is_rolling:
            look.found = deployment_status.paused(look.deployment, is_paused=False)
            await self._roll(look)
        else:
            look.found = deployment_status.paused(look.deployment, is_paused=False)
            await self._recreate(look)

    # ------------------------------------------------------------------ strategies

    async def _roll(self, look: _Look) -> None:
        await self._ensure_new(look)
        if look.new is None:
            return
        wanted = rollout.new_replicas(
            revisions.part_of(look.new),
            [revisions.part_of(one) for one in look.old],
            look.desired,
            look.limits.max_surge,
        )
        if wanted != look.new["spec"]["replicas"]:
            look.new = await self._scale(look, look.new, wanted)
            return
        sizes = rollout.old_replicas(
            revisions.part_of(look.new),
            [revisions.part_of(one) for one in look.old],
            look.desired,
            look.limits.max_unavailable,
        )
        await self._resize(look, sizes)
        await self._clean_up(look)

    async def _recreate(self, look: _Look) -> None:
        active = [one for one in look.old if one["spec"].get("replicas")]
        if active:
            await self._resize(look, {meta.name(one): 0 for one in active})
            return
        if any(self._runs_pods(one) for one in look.old):
            return  # the last old pod's end brings us back here
        await self._ensure_new(look)
        if look.new is not None and look.new["spec"].get("replicas") != look.desired:
            look.new = await self._scale(look, look.new, look.desired)
        await self._clean_up(look)

    def _runs_pods(self, replica_set: Object) -> bool:
        namespace = meta.namespace(replica_set)
        own = self._pods.by_index(BY_CONTROLLER, controller_key(namespace, meta.uid(replica_set)))
        return any(not pods.is_terminal(pod) for pod in own)

    async def _share_out(self, look: _Look) -> None:
        sizes = rollout.scaled(
            revisions.part_of(look.new) if look.new is not None else None,
            [revisions.part_of(one) for one in look.old],
            look.desired,
            look.limits,
            is_rolling=look.is_rolling,
            status_replicas=int((look.deployment.get("status") or {}).get("replicas") or 0),
        )
        await self._resize(look, sizes)
        for replica_set in look.everyone():
            name = meta.name(replica_set)
            if name not in sizes and replica_set["spec"].get("replicas"):
                await self._scale(look, replica_set, replica_set["spec"]["replicas"])
        if look.deployment["spec"].get("paused"):
            await self._clean_up(look)

    # ------------------------------------------------------------------ ReplicaSets

    async def _ensure_new(self, look: _Look) -> None:
        """Find or make the ReplicaSet of the present template, and number it."""
        revision = revisions.next_revision(look.old)
        annotations = revisions.annotations_for(
            look.deployment, look.new, revision, look.desired, look.max_replicas
        )
        if look.new is None:
            await self._create_new(look, annotations)
        elif annotations != meta.annotations(look.new) or _min_ready(look.new) != _min_ready(look.deployment):
            patch = {
                "metadata": {"uid": meta.uid(look.new), "annotations": annotations},
                "spec": {"minReadySeconds": _min_ready(look.deployment)},
            }
            look.new = await self._patch(look.new, patch)
        if look.new is None:
            return
        if look.found is None and conditions.get_condition(look.deployment, "Progressing") is None:
            text = f'Found new replica set "{meta.name(look.new)}"'
            look.found = conditions.make("Progressing", True, deployment_status.FOUND, text)
        await self._write_revision(look)

    async def _create_new(self, look: _Look, annotations: Mapping[str, str]) -> None:
        deployment = look.deployment
        collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
        hash_ = revisions.template_hash(deployment["spec"]["template"], collisions)
        blank = revisions.new_replica_set(deployment, hash_, 0, annotations)
        replicas = look.desired
        if look.is_rolling:
            part = Part(meta.name(blank), 0, 0, self.clock.now())
            replicas = rollout.new_replicas(
                part, [revisions.part_of(one) for one in look.old], look.desired, look.limits.max_surge
            )
        blank["spec"]["replicas"] = replicas
        try:
            look.new = await self.client.create(REPLICA_SET, blank)
        except StatusError as error:
            if is_already_exists(error):
                await self._resolve_collision(look, blank)
                return
            if is_namespace_ending(error):
                return
            text = f'Failed to create new replica set "{meta.name(blank)}": {error.message}'
            look.found = conditions.make("Progressing", False, deployment_status.FAILED, text)
            await self._events.event(deployment, "Warning", deployment_status.FAILED, text)
            await self._write_status(look)
            raise
        text = f'Created new replica set "{meta.name(look.new)}"'
        look.found = conditions.make("Progressing", True, deployment_status.CREATED, text)
        if replicas:
            said = f"Scaled up replica set {meta.name(look.new)} from 0 to {replicas}"
            await self._events.event(deployment, "Normal", "ScalingReplicaSet", said)

    async def _resolve_collision(self, look: _Look, blank: Object) -> None:
        """The name is taken: by ourselves a moment ago, or by another template with the same hash."""
        existing = await self.client.get(REPLICA_SET, meta.name(blank), meta.namespace(blank))
        template = look.deployment["spec"]["template"]
        is_ours = meta.is_controlled_by(existing, look.deployment)
        if is_ours and revisions.is_same_template(existing["spec"]["template"], template):
            look.new = existing
            return
        collisions = int((look.deployment.get("status") or {}).get("collisionCount") or 0)
        patch = {
            "metadata": {"uid": meta.uid(look.deployment)},
            "status": {"collisionCount": collisions + 1},
        }
        look.deployment = await self.client.patch(
            DEPLOYMENT,
            meta.name(look.deployment),
            meta.namespace(look.deployment),
            patch,
            subresource="status",
        )

    async def _write_revision(self, look: _Look) -> None:
        """The Deployment shows the revision of its newest ReplicaSet."""
        assert look.new is not None
        revision = meta.annotations(look.new).get(revisions.REVISION, "")
        if meta.annotations(look.deployment).get(revisions.REVISION) == revision:
            return
        patch = {
            "metadata": {
                "uid": meta.uid(look.deployment),
                "annotations": {revisions.REVISION: revision},
            }
        }
        look.deployment = await self.client.patch(
            DEPLOYMENT, meta.name(look.deployment), meta.namespace(look.deployment), patch
        )

    async def _resize(self, look: _Look, sizes: Mapping[str, int]) -> None:
        for replica_set in look.everyone():
            wanted = sizes.get(meta.name(replica_set))
            if wanted is None:
                continue
            after = await self._scale(look, replica_set, wanted)
            if replica_set is look.new:
                look.new = after
            else:
                look.old = [after if one is replica_set else one for one in look.old]

    async def _scale(self, look: _Look, replica_set: Object, wanted: int) -> Object:
        """Size and the annotations that say what it was sized for."""
        present = int(replica_set["spec"].get("replicas") or 0)
        annotations = {
            revisions.DESIRED_REPLICAS: str(look.desired),
            revisions.MAX_REPLICAS: str(look.max_replicas),
        }
        said = {key: meta.annotations(replica_set).get(key) for key in annotations}
        if present == wanted and said == annotations:
            return replica_set
        patch = {
            "metadata": {
                "uid": meta.uid(replica_set),
                "resourceVersion": meta.resource_version(replica_set),
                "annotations": annotations,
            },
            "spec": {"replicas": wanted},
        }
        after = await self._patch(replica_set, patch)
        if present != wanted:
            direction = "up" if wanted > present else "down"
            text = f"Scaled {direction} replica set {meta.name(replica_set)} from {present} to {wanted}"
            await self._events.event(look.deployment, "Normal", "ScalingReplicaSet", text)
        return after

    async def _patch(self, replica_set: Object, patch: Object) -> Object:
        return await self.client.patch(
            REPLICA_SET, meta.name(replica_set), meta.namespace(replica_set), patch
        )

    async def _clean_up(self, look: _Look) -> None:
        """Forget old templates beyond the limit, once the rollout is done."""
        status = deployment_status.counts(look.deployment, look.new, look.everyone())
        if not deployment_status.is_complete(look.deployment, status):
            return
        limit = look.deployment["spec"].get("revisionHistoryLimit", 10)
        for replica_set in revisions.to_clean_up(look.old, limit):
            try:
                await self.client.delete(
                    REPLICA_SET,
                    meta.name(replica_set),
                    meta.namespace(replica_set),
                    uid=meta.uid(replica_set),
                )
            except StatusError as error:
                if not is_not_found(error) and not is_conflict(error):
                    raise
            look.old = [one for one in look.old if one is not replica_set]

    # ------------------------------------------------------------------ status

    async def _write_status(self, look: _Look) -> dict[str, Any]:
        now = self.clock.now()
        status = deployment_status.counts(look.deployment, look.new, look.everyone())
        present = deployment_status.with_available(look.deployment, status, now)
        present = deployment_status.with_replica_failure(present, [look.new, *look.old], now)
        status["conditions"] = deployment_status.with_progress(
            look.deployment, status, present, look.new, look.found, now
        )
        before = look.deployment.get("status") or {}
        same = {key: before.get(key, [] if key == "conditions" else 0) for key in status}
        if same != status:
            patch = {"metadata": {"uid": meta.uid(look.deployment)}, "status": status}
            try:
                await self.client.patch(
                    DEPLOYMENT,
                    meta.name(look.deployment),
                    meta.namespace(look.deployment),
                    patch,
                    subresource="status",
                )
            except StatusError as error:
                if not is_not_found(error):
                    raise
        return status

    def _next_look_s(self, deployment: Object, status: Mapping[str, Any]) -> float | None:
        """When the rollout would count as stuck, so that it is said in time."""
        progressing = conditions.find(status["conditions"], "Progressing")
        reason = progressing.get("reason") if progressing is not None else deployment_status.DONE
        if progressing is None or reason in (deployment_status.DONE, deployment_status.STUCK):
            return None
        left_s = deployment_status.deadline_left_s(deployment, progressing, self.clock.now())
        return None if left_s is None else max(left_s, 0.0) + 1.0

    # ------------------------------------------------------------------ what the informers say

    def _on_replica_set(self, before: Object | None, after: Object | None) -> None:
        for replica_set in (before, after):
            controller = meta.controller_of(replica_set) if replica_set is not None else None
            if replica_set is not None and controller is not None:
                if controller.get("kind") == DEPLOYMENT.kind:
                    self.queue.add(meta.key_of(meta.namespace(replica_set), str(controller["name"])))
            elif after is not None and replica_set is after:
                for deployment in self._deployments.list(meta.namespace(after)):
                    if selector_of(deployment["spec"].get("selector")).matches(meta.labels(after)):
                        self.enqueue(deployment)

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        """Recreate waits for the end of pods, which ReplicaSets' statuses do not show."""
        pod = after if after is not None else before
        assert pod is not None
        if after is not None and not pods.is_terminal(after):
            return
        controller = meta.controller_of(pod)
        if controller is None or controller.get("kind") != REPLICA_SET.kind:
            return
        replica_set = self._replica_sets.get(str(controller["name"]), meta.namespace(pod))
        owner = meta.controller_of(replica_set) if replica_set is not None else None
        if owner is not None and owner.get("kind") == DEPLOYMENT.kind:
            deployment = self._deployments.get(str(owner["name"]), meta.namespace(pod))
            strategy = (deployment or {}).get("spec", {}).get("strategy") or {}
            if deployment is not None and strategy.get("type") == "Recreate":
                self.enqueue(deployment)


def _is_scaling(look: _Look) -> bool:
    """Whether `spec.replicas` changed since the active ReplicaSets were sized."""
    return any(
        part.replicas > 0 and part.desired_replicas is not None and part.desired_replicas != look.desired
        for part in map(revisions.part_of, look.everyone())
    )


def _min_ready(workload: Object) -> int:
    return int(workload["spec"].get("minReadySeconds") or 0)
