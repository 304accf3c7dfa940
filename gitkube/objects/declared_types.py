"""What the types of an expression's names are: of an object by its schema, of a request, of a namespace.

A custom resource shows a rule what its schema declares, and nothing else: what is kept without being
declared, or has no type, is no field there. Of a built-in kind everything is declared; where its schema is
loose (a quantity, a time that clients compare as text) the type is `dyn`, and nothing is said against any use
of it. Source: k8s.io/apiserver, pkg/cel/common/schemas.go and pkg/admission/plugin/cel/compile.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gitkube.objects.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    STRING,
    CelType,
    list_of,
    map_of,
    struct,
)
from gitkube.objects.custom.rule_values import escaped
from gitkube.objects.custom.schema import CustomSchema
from gitkube.objects.schema import Schema

_SCALARS = {"boolean": BOOL, "integer": INT, "number": DOUBLE}
_FORMATS = {
    "byte": BYTES,
    "duration": CelType("duration", most=30),
    "date": CelType("timestamp", most=10),
    "date-time": CelType("timestamp", most=30),
}
"""With the characters of the longest in JSON."""
MAX_REQUEST_BYTES = 3 * 1024 * 1024
"""Of an object that is written: what bounds all that its schema does not."""
_KEY = CelType("string", most=0)
"""Of the keys of a map; how long they are, no schema says, and nothing is counted for them."""
_SMALLEST = {"boolean": 4, "integer": 1, "number": 1}
_BYTES_A_CHARACTER = 4
_NAME_FIELDS = {"name": STRING, "generateName": STRING}


def declared_type(schema: Schema, name: str, *, is_root: bool = False) -> CelType | None:
    """The type of values of a schema; None when the schema does not say one.

    Args:
        name: of the type, in messages.
        is_root: whether it is of a whole object, of whose metadata a rule sees the name only.
    """
    if schema.int_or_string or schema.is_quantity:
        return CelType("dyn", most=MAX_REQUEST_BYTES - 2)
    if not isinstance(schema, CustomSchema) and (schema.preserve_unknown or not schema.types):
        return DYN
    if schema.is_object:
        return _object(schema, name, is_root=is_root)
    if schema.is_list:
        items = schema.items
        element = declared_type(items, f"{name}.@idx", is_root=_is_whole(items)) if items else None
        return None if element is None else list_of(element, _most_items(schema))
    if "string" in schema.types:
        return _string(schema)
    return next((_SCALARS[kind] for kind in schema.types if kind in _SCALARS), None)


def _is_whole(schema: Schema | None) -> bool:
    return isinstance(schema, CustomSchema) and schema.is_embedded


def _string(schema: Schema) -> CelType:
    if schema.format in _FORMATS:
        # Policies see built-in objects as JSON: a time there is a text.
        if not isinstance(schema, CustomSchema):
            return DYN
        found = _FORMATS[schema.format]
        return found if found.most is not None else CelType(found.name, most=_longest(schema))
    return CelType("string", most=_longest(schema))


def _longest(schema: Schema) -> int:
    """Bytes of the longest text."""
    if (most := schema.raw.get("maxLength")) is not None:
        return int(most) * _BYTES_A_CHARACTER
    words = [len(word) for word in schema.enum if isinstance(word, str)]
    return max(words, default=MAX_REQUEST_BYTES - 2)


def _most_items(schema: Schema) -> int:
    if (most := schema.raw.get("maxItems")) is not None:
        return int(most)
    return (MAX_REQUEST_BYTES - 2) // (smallest_bytes(schema.items) + 1)


def _most_entries(schema: Schema) -> int:
    if (most := schema.raw.get("maxProperties")) is not None:
        return int(most)
    return (MAX_REQUEST_BYTES - 2) // (smallest_bytes(schema.additional_properties) + 6)


def smallest_bytes(schema: Schema | None) -> int:
    """Bytes of JSON of the smallest value that has all that the schema requires."""
    if schema is None:
        return 2
    if schema.is_object and schema.properties:
        required = [(name, schema.properties.get(name)) for name in schema.required]
        return 2 + sum(
            len(name) + 4 + smallest_bytes(child)
            for name, child in required
            if child is not None and child.default is None
        )
    return next((_SMALLEST[kind] for kind in schema.types if kind in _SMALLEST), 2)


def _object(schema: Schema, name: str, *, is_root: bool) -> CelType | None:
    if (values := schema.additional_properties) is not None and not schema.properties:
        value = declared_type(values, f"{name}.@elem", is_root=_is_whole(values))
        return None if value is None else map_of(_KEY, value, _most_entries(schema))
    return struct(name, _fields(schema, name, is_root=is_root))


def _fields(schema: Schema, name: str, *, is_root: bool) -> Callable[[str], CelType | None]:
    names = {escaped(field): field for field in schema.properties}
    known: dict[str, CelType | None] = {}
    if is_root:
        known["metadata"] = struct(f"{name}.metadata", _NAME_FIELDS.get)
        known["apiVersion"] = known["kind"] = STRING

    def find(field: str) -> CelType | None:
        if field not in known:
            child = schema.properties[names[field]] if field in names else None
            known[field] = (
                None if child is None else declared_type(child, f"{name}.{field}", is_root=_is_whole(child))
            )
        return known[field]

    return find


def _record(type_name: str, /, **fields: CelType) -> CelType:
    return struct(type_name, fields.get)


_GROUP_VERSION_KIND = _record("kubernetes.GroupVersionKind", group=STRING, version=STRING, kind=STRING)
_GROUP_VERSION_RESOURCE = _record(
    "kubernetes.GroupVersionResource", group=STRING, version=STRING, resource=STRING
)
_USER_INFO = _record(
    "kubernetes.UserInfo",
    username=STRING,
    uid=STRING,
    groups=list_of(STRING),
    extra=map_of(STRING, list_of(STRING)),
)
_CHECK = CelType("kubernetes.authorization.ResourceCheck")
AUTHORIZER = _record("kubernetes.authorization.Authorizer", requestResource=_CHECK)
"""`authorizer`; what may be asked of it, `cel/signatures.py` says."""
REQUEST = _record(
    "kubernetes.AdmissionRequest",
    kind=_GROUP_VERSION_KIND,
    resource=_GROUP_VERSION_RESOURCE,
    subResource=STRING,
    requestKind=_GROUP_VERSION_KIND,
    requestResource=_GROUP_VERSION_RESOURCE,
    requestSubResource=STRING,
    name=STRING,
    namespace=STRING,
    operation=STRING,
    userInfo=_USER_INFO,
    dryRun=BOOL,
    options=DYN,
)
"""`request`, in the expressions of policies and webhooks."""
_NAMESPACE_METADATA = _record(
    "kubernetes.NamespaceMetadata",
    name=STRING,
    generateName=STRING,
    namespace=STRING,
    labels=map_of(STRING, STRING),
    annotations=map_of(STRING, STRING),
    UID=STRING,
    uid=STRING,
    creationTimestamp=DYN,
    deletionGracePeriodSeconds=INT,
    deletionTimestamp=DYN,
    generation=INT,
    resourceVersion=STRING,
    finalizers=list_of(STRING),
)
NAMESPACE = _record(
    "kubernetes.Namespace",
    metadata=_NAMESPACE_METADATA,
    spec=_record("kubernetes.NamespaceSpec", finalizers=list_of(STRING)),
    status=_record("kubernetes.NamespaceStatus", phase=STRING, conditions=DYN),
)
"""`namespaceObject`."""


def composed(variables: Mapping[str, CelType]) -> CelType:
    """`variables` of a policy: a struct of what its expressions before made."""
    known = dict(variables)
    return struct("kubernetes.variables", known.get)
