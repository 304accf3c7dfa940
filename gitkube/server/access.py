"""The pod behind a stream, for whoever may open the stream.

Opening `exec` is a right of its own (`create pods/exec`), not the right to read pods; so the question to the
authorizer is asked for the subresource, and the pod is then read as the server itself.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from gitkube.api.authorization import system_user
from gitkube.api.errors import StatusError, bad_request, is_not_found, not_found
from gitkube.api.requests import Context, VerbsApi
from gitkube.objects import meta, pods
from gitkube.objects.kinds import NODE, POD, Kind
from gitkube.objects.types import Object


class Authorizing(VerbsApi, Protocol):
    """`VerbsApi`, and the questions whether somebody may."""

    def authorize(
        self, context: Context, verb: str, kind: Kind, namespace: str, name: str = "", subresource: str = ""
    ) -> None:
        """Raises `StatusError` 403 unless the user may do this."""
        ...

    async def admit_connect(
        self, context: Context, kind: Kind, namespace: str, name: str, subresource: str, options: Object
    ) -> None:
        """Raises `StatusError` when a webhook or a policy refuses the connection."""
        ...


class PodAccess:
    def __init__(self, verbs: Authorizing) -> None:
        self._verbs = verbs
        self._reader = system_user("apiserver")

    async def pod(self, context: Context, verb: str, namespace: str, name: str, subresource: str) -> Object:
        """The pod.

        Raises:
            StatusError: 403, 404.
        """
        self._verbs.authorize(context, verb, POD, namespace, name, subresource)
        return await self._verbs.get(dataclasses.replace(context, user=self._reader), POD, namespace, name)

    async def admit(self, context: Context, pod: Object, subresource: str, options: Object) -> None:
        """Ask webhooks and policies about a connection to the pod.

        Args:
            options: a document such as PodExecOptions.

        Raises:
            StatusError: it is refused.
        """
        namespace, name = str(pod["metadata"]["namespace"]), str(pod["metadata"]["name"])
        await self._verbs.admit_connect(context, POD, namespace, name, subresource, options)

    async def check_host(self, context: Context, pod: Object) -> None:
        """Whether the pod is on a host that there is.

        Raises:
            StatusError: 400 or 404, in the words in which Kubernetes says so.
        """
        host = pods.node_name(pod)
        if not host:
            raise bad_request(f"pod {meta.name(pod)} does not have a host assigned")
        try:
            await self._verbs.get(dataclasses.replace(context, user=self._reader), NODE, "", host)
        except StatusError as error:
            if not is_not_found(error):
                raise
            raise not_found("", POD.plural, host) from error
