"""The rules of `x-kubernetes-validations` as they are written: read, compiled and judged once.

A rule is an expression over `self`, the value at its node, and `oldSelf`, what stood there before. One that
reads `oldSelf` is about a change (a transition rule): it holds for everything that was not there before.
Source: k8s.io/apiextensions-apiserver, pkg/apis/apiextensions/validation and pkg/apiserver/schema/cel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gitkube.objects.cel import CelSyntaxError, Program, compile_expression
from gitkube.objects.cel.checker import check_types
from gitkube.objects.cel.cost import most_units
from gitkube.objects.cel.types import DYN, CelType, optional_of
from gitkube.objects.custom.rule_costs import Count, RuleCosts
from gitkube.objects.custom.schema import RULES, CustomSchema, root_schema
from gitkube.objects.declared_types import declared_type, smallest_bytes
from gitkube.objects.validation.causes import Causes

MAX_RULES = 100
"""Of one node."""
MAX_MESSAGE = 2048
"""Characters of a message, written or made by an expression."""
REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_VARIABLES = frozenset({"self", "oldSelf"})
_SELF_TYPE = "selfType"
"""The name of the type of `self` in messages; in Kubernetes a number follows."""
_FIELD_PATH = re.compile(r"(\.[^.\[\]]+|\['[^']+'\])+")


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule."""

    text: str
    program: Program
    message: str
    message_program: Program | None
    reason: str
    field_path: str
    has_optional_old: bool
    """Whether `oldSelf` is an optional, so that the rule also judges what is new."""

    @property
    def is_transition(self) -> bool:
        return "oldSelf" in self.program.variables and not self.has_optional_old


@lru_cache(maxsize=8192)
def compiled(text: str) -> Program:
    """The program of a rule.

    Raises:
        CelSyntaxError: it is no expression.
    """
    return compile_expression(text, _VARIABLES)


def rule_of(written: Mapping[str, Any]) -> Rule:
    """A rule as it is written, ready to be asked.

    Raises:
        CelSyntaxError: it is no expression.
    """
    message_text = written.get("messageExpression")
    return Rule(
        str(written["rule"]),
        compiled(str(written["rule"])),
        str(written.get("message") or ""),
        compiled(str(message_text)) if message_text else None,
        str(written.get("reason") or "FieldValueInvalid"),
        str(written.get("fieldPath") or ""),
        bool(written.get("optionalOldSelf")),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a definition the rules of a node stand."""

    path: str
    has_past: bool
    """Whether it is known of the node's values what stood there before."""
    is_root: bool
    """Whether the node is of whole objects."""
    count: Count
    """How often the node can be in an object."""


def check_written_rules(causes: Causes, schema: Mapping[str, Any], place: Place, costs: RuleCosts) -> None:
    """Add a cause for every rule of a node that cannot be one, and its cost to those of the schema."""
    path = place.path
    written = schema.get(RULES) or ()
    if not written:
        return
    if len(written) > MAX_RULES:
        causes.add(
            "FieldValueTooMany",
            f"{path}.{RULES}",
            f"Too many: {len(written)}: must have at most {MAX_RULES} items",
        )
        return
    node = root_schema(schema) if place.is_root else CustomSchema(schema)
    # Where the schema says no type, that is a mistake of its own.
    declared = declared_type(node, _SELF_TYPE, is_root=place.is_root or node.is_embedded) or DYN
    smallest = smallest_bytes(node)
    for index, rule in enumerate(written):
        at = f"{path}.{RULES}[{index}]"
        units, message_units = _check_one(causes, rule, at, declared, has_past=place.has_past)
        costs.add(causes, f"{at}.rule", units, place.count, smallest, "rule")
        if message_units:
            field = f"{at}.messageExpression"
            costs.add(causes, field, message_units, place.count, smallest, "messageExpression")


def _checked(text: str, declared: CelType, *, has_optional_old: bool) -> tuple[CelType, int, str]:
    """The type of an expression's value, what it costs at most, and all that is wrong with it."""
    old = optional_of(declared) if has_optional_old else declared
    try:
        checked = check_types(text, {"self": declared, "oldSelf": old})
        if not checked.mistakes:
            compiled(text)
    except CelSyntaxError as error:
        return DYN, 0, error.message
    if checked.mistakes:
        return DYN, 0, "\n".join(checked.mistakes)
    return checked.type, most_units(checked, declared), ""


def _check_one(
    causes: Causes, rule: Mapping[str, Any], path: str, declared: CelType, *, has_past: bool
) -> tuple[int, int]:
    """What the rule and its message cost at most, for one value."""
    text, message = str(rule.get("rule") or ""), rule.get("message")
    if not text.strip():
        causes.required(f"{path}.rule", "rule is not specified")
        return 0, 0
    if message is not None and not message.strip():
        causes.invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif message and "\n" in message.strip():
        causes.invalid(f"{path}.message", message, "message must not contain line breaks")
    elif message and len(message) > MAX_MESSAGE:
        causes.add(
            "FieldValueTooLong", f"{path}.message", f"Too long: may not be more than {MAX_MESSAGE} bytes"
        )
    elif not message and "\n" in text.strip() and not rule.get("messageExpression"):
        causes.required(f"{path}.message", "message must be specified if rule contains line breaks")
    if (reason := rule.get("reason")) is not None and reason not in REASONS:
        causes.not_supported(f"{path}.reason", reason, REASONS)
    if (field := rule.get("fieldPath")) and _FIELD_PATH.fullmatch(field) is None:
        causes.invalid(f"{path}.fieldPath", field, "must be a path of fields such as .spec.replicas")
    has_optional_old = bool(rule.get("optionalOldSelf"))
    result, units, wrong = _checked(text, declared, has_optional_old=has_optional_old)
    if wrong:
        causes.invalid(f"{path}.rule", text, f"compilation failed: {wrong}")
        return 0, 0
    if result.name not in ("bool", "dyn"):
        causes.invalid(f"{path}.rule", text, "cel expression must evaluate to a bool")
    uses_old = "oldSelf" in compiled(text).variables
    if uses_old and not has_past and not has_optional_old:
        where = "oldSelf cannot be used on the uncorrelatable portion of the schema"
        causes.invalid(f"{path}.rule", text, f"{where}: its list is not of type map")
    if rule.get("optionalOldSelf") is not None and not uses_old:
        text_of = "option optionalOldSelf is set, but oldSelf is not used in the rule"
        causes.invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], text_of)
    if not (expression := rule.get("messageExpression")):
        return units, 0
    made, message_units, wrong = _checked(str(expression), declared, has_optional_old=has_optional_old)
    if wrong:
        text_of = f"messageExpression compilation failed: {wrong}"
        causes.invalid(f"{path}.messageExpression", expression, text_of)
    elif made.name not in ("string", "dyn"):
        text_of = "messageExpression must evaluate to a string"
        causes.invalid(f"{path}.messageExpression", expression, text_of)
    return units, message_units
