"""What the identity of a node may: what its pods need, and nothing of the others'.

No host of ours has such an identity, and none needs one: everything comes down its link. But whoever runs a
program of Kubernetes that speaks as a kubelet can have a certificate for `system:node:NAME` in `system:nodes`
signed, and then the rights of that are bounded as Kubernetes' node authorizer and its NodeRestriction do: the
rules of the ClusterRole `system:node`, less everything that is not the node's own. A node reads a Secret,
ConfigMap or claim while a pod that is bound to it names it, its own Node, its own pods; it reports of these;
it asks for tokens for its pods' accounts, bound to the pod. It makes no pods and no Nodes: those are ours.

Invariant: this only adds to what role bindings allow, and only for an identity that has both name and group.
It walks the pods of a namespace for each question, which is little for the few that ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gitkube.api import errors
from gitkube.api.authorization import Attributes, Decision, Rules, User
from gitkube.api.cache import WatchCache
from gitkube.api.rbac.authorizer import Rbac
from gitkube.api.rbac.rules import allows
from gitkube.objects import meta, pods
from gitkube.objects.kinds import (
    CLUSTER_ROLE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SERVICE_ACCOUNT,
)
from gitkube.objects.types import Object

PREFIX, GROUP, ROLE = "system:node:", "system:nodes", "system:node"
LEASES = "kube-node-lease"
_READS = ("get", "list", "watch")


def node_of(user: User) -> str:
    """The name of the node that an identity is; "" for others."""
    is_node = user.name.startswith(PREFIX) and GROUP in user.groups
    return user.name.removeprefix(PREFIX) if is_node else ""


class Nodes:
    """An `Authorizer`: role bindings first, and then, for nodes, what is theirs."""

    def __init__(self, cache: WatchCache, rbac: Rbac) -> None:
        self._cache = cache
        self._rbac = rbac
        self._limited: dict[tuple[str, str], Callable[[str, Attributes], str]] = {
            ("", "secrets"): self._referenced(pods.referenced_secrets),
            ("", "configmaps"): self._referenced(pods.referenced_config_maps),
            ("", "persistentvolumeclaims"): self._referenced(_claims),
            ("", "persistentvolumes"): self._volume,
            ("", "serviceaccounts"): self._token,
            ("", "pods"): self._pod,
            ("", "nodes"): self._node,
            ("coordination.k8s.io", "leases"): self._lease,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            ("storage.k8s.io", "volumeattachments"): lambda node, asked: _unrelated(node),
        }
        """Group and resource -> why a node may not, "" if it may as far as its role allows."""

    def decide(self, attributes: Attributes) -> Decision:
        """Whether the user may do this, and because of what."""
        decision = self._rbac.decide(attributes)
        node = node_of(attributes.user)
        if decision.allowed or not node or attributes.path:
            return decision
        limit = self._limited.get((attributes.group, attributes.resource))
        if limit is not None and (why := limit(node, attributes)):
            return Decision(False, why)
        rules = self._rbac.role({"kind": CLUSTER_ROLE.kind, "name": ROLE}, "") or ()
        if any(allows(rule, attributes) for rule in rules):
            return Decision(True)
        return decision

    def rules(self, user: User, namespace: str) -> Rules:
        """What role bindings allow; what more a node may cannot be said in rules."""
        return self._rbac.rules(user, namespace)

    # ------------------------------------------------------------------ what is a node's own

    def _bound(self, node: str, namespace: str = "") -> Iterator[Object]:
        for _, pod in self._cache.of(POD).select(namespace):
            if pods.node_name(pod) == node:
                yield pod

    def _referenced(self, names: Callable[[Object], list[str]]) -> Callable[[str, Attributes], str]:
        def limit(node: str, asked: Attributes) -> str:
            if asked.verb not in _READS or asked.subresource:
                return "can only read resources of this type"
            if not asked.name or not asked.namespace:
                return "No Object name found"
            if any(asked.name in names(dict(pods.spec(pod))) for pod in self._bound(node, asked.namespace)):
                return ""
            return _unrelated(node)

        return limit

    def _volume(self, node: str, asked: Attributes) -> str:
        if asked.verb != "get" or asked.subresource:
            return "can only read resources of this type"
        volume = self._cache.of(PERSISTENT_VOLUME).get(asked.name)
        claim = ((volume or {}).get("spec") or {}).get("claimRef") or {}
        namespace, name = str(claim.get("namespace") or ""), str(claim.get("name") or "")
        present = self._cache.of(PERSISTENT_VOLUME_CLAIM).get(name, namespace)
        is_bound = present is not None and (present.get("spec") or {}).get("volumeName") == asked.name
        if is_bound and any(name in _claims(dict(pods.spec(pod))) for pod in self._bound(node, namespace)):
            return ""
        return _unrelated(node)

    def _token(self, node: str, asked: Attributes) -> str:
        if (asked.verb, asked.subresource) != ("create", "token"):
            return "can only create tokens for individual service accounts"
        if any(_account(pod) == asked.name for pod in self._bound(node, asked.namespace)):
            return ""
        return _unrelated(node)

    def _pod(self, node: str, asked: Attributes) -> str:
        if not asked.name:
            if asked.verb in ("list", "watch") and asked.field_selector == f"spec.nodeName={node}":
                return ""
            return "can only list and watch pods with the field selector spec.nodeName=NODE, and make none"
        pod = self._cache.of(POD).get(asked.name, asked.namespace)
        return "" if pod is not None and pods.node_name(pod) == node else _unrelated(node)

    def _node(self, node: str, asked: Attributes) -> str:
        if asked.name != node:
            return f"node '{node}' can only access its own Node"
        if asked.verb in _READS or asked.subresource == "status":
            return ""
        return "a node can only report its status; hosts come from the inventory"

    def _lease(self, node: str, asked: Attributes) -> str:
        if asked.namespace != LEASES or asked.verb in ("list", "watch", "deletecollection"):
            return "can only get, create, update, patch, or delete a node lease"
        if asked.name in (node, "") and (asked.name or asked.verb == "create"):
            return ""
        return "can only access node lease with the same name as the requesting node"

    def _csi_node(self, node: str, asked: Attributes) -> str:
        if asked.verb in ("list", "watch", "deletecollection"):
            return "can only get, create, update, patch, or delete a CSINode"
        if asked.name == node or (not asked.name and asked.verb == "create"):
            return ""
        return "can only access CSINode with the same name as the requesting node"


def check_node_made(user: User, obj: Object) -> None:
    """A node makes only what has its own name: a create has no name that could be asked about before.

    Raises:
        StatusError: 403.
    """
    node = node_of(user)
    kind = str(obj.get("kind") or "")
    if node and kind in ("Lease", "CSINode") and meta.name(obj) != node:
        plural = "leases" if kind == "Lease" else "csinodes"
        raise errors.forbidden("", plural, meta.name(obj), f"node '{node}' can only make one of its own name")


def check_node_token(user: User, cache: WatchCache, namespace: str, account: str, request: Object) -> None:
    """A node gets tokens only for its own pods, each bound to the pod.

    Raises:
        StatusError: 403.
    """
    node = node_of(user)
    if not node:
        return
    bound = (request.get("spec") or {}).get("boundObjectRef") or {}
    pod = cache.of(POD).get(str(bound.get("name") or ""), namespace) if bound.get("kind") == "Pod" else None
    if pod is not None and pods.node_name(pod) == node and _account(pod) == account:
        return
    why = f"node '{node}' requested a token that is not bound to a pod of that account on this node"
    raise errors.forbidden(SERVICE_ACCOUNT.group, SERVICE_ACCOUNT.plural, account, why)


def _account(pod: Object) -> str:
    return str(pods.spec(pod).get("serviceAccountName") or "default")


def _claims(spec: Object) -> list[str]:
    found = []
    for volume in spec.get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            found.append(str(volume["persistentVolumeClaim"].get("claimName") or ""))
    return found


def _unrelated(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"
