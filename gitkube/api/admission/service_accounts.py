"""The ServiceAccount of a new pod: which it is, that it exists, and which secrets it lets the pod use.

The account `default` counts as there even in the moment before the controller has made it, so that the first
pods of a new namespace need not be tried again; every other must exist. An account annotated
`kubernetes.io/enforce-mountable-secrets: "true"` lists the secrets that its pods may name. Pods that mirror a
host's own files act as nobody.

Unless pod or account say no (`automountServiceAccountToken`), each container gets the directory in which
client libraries look: a token of the account, the authority of the API's certificate, and the namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from gitkube.api import errors
from gitkube.api.admission.request import AdmissionRequest, Verb
from gitkube.objects.kinds import POD, SERVICE_ACCOUNT
from gitkube.objects.types import Object

DEFAULT_ACCOUNT = "default"
MIRROR = "kubernetes.io/config.mirror"
ENFORCE = "kubernetes.io/enforce-mountable-secrets"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"
VOLUME_PREFIX = "kube-api-access-"
LIFETIME_S = 3607
"""As Kubernetes: an hour, and some seconds by which its own mounts can be told from others."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def service_account(request: AdmissionRequest) -> None:
    """Name the pod's account, and refuse one that is not there or does not allow what the pod names.

    Raises:
        StatusError: 403.
    """
    if request.kind is not POD or request.verb is not Verb.CREATE or request.subresource:
        return
    spec = request.obj["spec"]
    given = spec.get("serviceAccountName") or spec.get("serviceAccount") or ""
    if MIRROR in (request.obj["metadata"].get("annotations") or {}):
        if given:
            raise _refused(request, "a mirror pod may not reference service accounts")
        if any(True for _ in _secrets(spec)):
            raise _refused(request, "a mirror pod may not reference secrets")
        return
    name = given or DEFAULT_ACCOUNT
    # `serviceAccount` is the older name of the same field; Kubernetes keeps both alike.
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = request.cache.of(SERVICE_ACCOUNT).get(name, request.namespace)
    if account is None and name != DEFAULT_ACCOUNT:
        why = f'service account {request.namespace}/{name}: serviceaccount "{name}" not found'
        raise _refused(request, f"error looking up {why}")
    account = account or {"metadata": {"name": name}}
    if (account["metadata"].get("annotations") or {}).get(ENFORCE) == "true":
        _enforce(request, account)
    if account.get("imagePullSecrets") and not spec.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [{"name": one.get("name")} for one in account["imagePullSecrets"]]
    if request.settings.mounts_tokens and _wants_token(spec, account):
        _mount_token(request, spec)


def _wants_token(spec: Object, account: Object) -> bool:
    for one in (spec, account):
        if one.get("automountServiceAccountToken") is not None:
            return bool(one["automountServiceAccountToken"])
    return True


def _mount_token(request: AdmissionRequest, spec: Object) -> None:
    """Mount the directory into each container that has nothing there."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    bare = [one for one in containers if not any(_is_there(mount) for mount in one.get("volumeMounts") or ())]
    if not bare:
        return
    taken = {volume.get("name") for volume in spec.get("volumes") or ()}
    name = next(name for name in _names(request.rng) if name not in taken)
    for container in bare:
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": LIFETIME_S, "path": "token"}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    volume = {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}
    spec["volumes"] = [*(spec.get("volumes") or ()), volume]


def _is_there(mount: Object) -> bool:
    return str(mount.get("mountPath") or "").rstrip("/") == TOKEN_PATH


def _names(rng: Random) -> Iterator[str]:
    while True:
        yield VOLUME_PREFIX + "".join(rng.choices(_LETTERS, k=5))


def _enforce(request: AdmissionRequest, account: Object) -> None:
    spec, name = request.obj["spec"], account["metadata"]["name"]
    allowed = {secret.get("name") for secret in account.get("secrets") or ()}
    for what, secret in _secrets(spec):
        if secret not in allowed:
            why = f"because service account {name} does not reference that secret"
            raise _refused(request, f'{what} secret.secretName="{secret}" is not allowed {why}')
    to_pull = {secret.get("name") for secret in account.get("imagePullSecrets") or ()}
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if secret.get("name") not in to_pull:
            why = f"because service account {name} does not reference that imagePullSecret"
            text = f'imagePullSecrets[{index}].name="{secret.get("name")}" is not allowed {why}'
            raise _refused(request, text)


def _secrets(spec: Object) -> Iterator[tuple[str, str]]:
    """Each secret that a pod names, with the place where it does."""
    for volume in spec.get("volumes") or ():
        if (source := volume.get("secret")) is not None:
            yield "volume with", str(source.get("secretName") or "")
        for part in (volume.get("projected") or {}).get("sources") or ():
            if (source := part.get("secret")) is not None:
                yield "projected volume with", str(source.get("name") or "")
    for word, field in (
        ("init container", "initContainers"),
        ("container", "containers"),
        ("ephemeral container", "ephemeralContainers"),
    ):
        for container in spec.get(field) or ():
            for variable in container.get("env") or ():
                source = (variable.get("valueFrom") or {}).get("secretKeyRef")
                if source is not None:
                    place = f"{word} {container.get('name')} with envVar {variable.get('name')} referencing"
                    yield place, str(source.get("name") or "")
            for every in container.get("envFrom") or ():
                if (source := every.get("secretRef")) is not None:
                    yield (
                        f"{word} {container.get('name')} with envFrom referencing",
                        str(source.get("name") or ""),
                    )


def _refused(request: AdmissionRequest, why: str) -> errors.StatusError:
    return errors.forbidden("", POD.plural, request.name, why)
