"""Names of the methods of the server's own objects: of `authorizer`, and of what it answers."""

from gitkube.objects.cel.registry import host_methods

host_methods(
    (
        "path",
        "group",
        "serviceAccount",
        "resource",
        "subresource",
        "namespace",
        "name",
        "fieldSelector",
        "labelSelector",
        "check",
        "allowed",
        "reason",
        "errored",
        "error",
    )
)
