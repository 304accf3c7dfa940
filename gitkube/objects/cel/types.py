"""Types of CEL, as a checker knows them before anything is evaluated.

A type is a name with parameters: `list(string)`, `map(string, int)`. One with fields is a struct, such as the
spec of a custom resource; its fields are asked for when an expression names them, so a deep schema costs what
is used of it. `dyn` is what is not known, and fits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CelType:
    name: str
    parameters: tuple[CelType, ...] = ()
    most: int | None = field(default=None, compare=False)
    """The most elements of a list or map, characters of a text, or bytes; None: nobody has said."""
    find_field: Callable[[str], CelType | None] | None = field(default=None, compare=False, repr=False)
    """The type of a field of a struct, by the name that an expression uses; None: there is none."""
    is_free: bool = field(default=False, repr=False)
    """Whether anything may yet be put in its place, as for the elements of `[]`."""

    @property
    def is_struct(self) -> bool:
        return self.find_field is not None

    @property
    def is_dyn(self) -> bool:
        return self.name == "dyn"

    @property
    def kind(self) -> str:
        """The name by which functions know it."""
        return "object" if self.is_struct else self.name

    def parameter(self, index: int) -> CelType:
        return self.parameters[index] if index < len(self.parameters) else DYN

    def __str__(self) -> str:
        """As Kubernetes writes it."""
        name = "null" if self.name == "null_type" else self.name
        return f"{name}({', '.join(map(str, self.parameters))})" if self.parameters else name


DYN = CelType("dyn")
FREE = CelType("dyn", is_free=True)
BOOL, INT, UINT, DOUBLE = CelType("bool"), CelType("int"), CelType("uint"), CelType("double")
STRING, BYTES, NULL = CelType("string"), CelType("bytes"), CelType("null_type")
TIMESTAMP, DURATION = CelType("timestamp"), CelType("duration")

TYPE_NAMES = frozenset(
    (
        "int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type",
        "optional_type", "google.protobuf.Timestamp", "google.protobuf.Duration", "kubernetes.Quantity",
        "kubernetes.URL", "net.IP", "net.CIDR",
    )
)  # fmt: skip
"""Types that an expression may name, as in `type(x) == int`."""
_NUMBERS = frozenset(("int", "uint", "double"))
_NEVER_NULL = frozenset(("bool", "int", "uint", "double", "string", "bytes", "list", "map"))


def list_of(element: CelType, most: int | None = None) -> CelType:
    return CelType("list", (element,), most)


def map_of(key: CelType, value: CelType, most: int | None = None) -> CelType:
    return CelType("map", (key, value), most)


def optional_of(inner: CelType) -> CelType:
    return CelType("optional_type", (inner,))


def struct(name: str, find_field: Callable[[str], CelType | None]) -> CelType:
    return CelType(name, find_field=find_field)


def named(name: str) -> CelType:
    """The type that a function is registered to give, its parameters unknown."""
    if name in ("list", "optional_type"):
        return CelType(name, (DYN,))
    return map_of(DYN, DYN) if name == "map" else CelType(name)


def joined(a: CelType, b: CelType) -> CelType | None:
    """The type of what may be either; None when nothing can be both.

    Of structs it is not judged whether their fields are the same, nor whether a map could be one.
    """
    if a == b or b.is_free:
        return a
    if a.is_free:
        return b
    if a.is_dyn or b.is_dyn:
        return DYN
    if a.name == "null_type" or b.name == "null_type":
        other = b if a.name == "null_type" else a
        return None if other.name in _NEVER_NULL else other
    if a.kind in ("object", "map") and b.kind in ("object", "map") and (a.is_struct or b.is_struct):
        return DYN
    if a.name != b.name or len(a.parameters) != len(b.parameters):
        return None
    parameters = [joined(x, y) for x, y in zip(a.parameters, b.parameters, strict=True)]
    if any(parameter is None for parameter in parameters):
        return None
    return CelType(a.name, tuple(parameter for parameter in parameters if parameter is not None))


def are_numbers(*types: CelType) -> bool:
    """Whether all are kinds of numbers, which may be compared with each other."""
    return all(each.name in _NUMBERS for each in types)
