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
from gitkube.objects.cel.types import DYN, CelType, optional_of
from gitkube.objects.custom.schema import EMBEDDED, RULES, CustomSchema, root_schema
from gitkube.objects.declared_types import declared_type
from gitkube.objects.validation.causes import Causes

MAX_RULES = 100
"""Of one node. The cost of all rules on an object is bounded when they run."""
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


def check_written_rules(
    causes: Causes, schema: Mapping[str, Any], path: str, *, has_past: bool, is_root: bool
) -> None:
    """Add a cause for every rule of a node that cannot be one.

    Args:
        has_past: whether it is known of the node's values what stood there before.
        is_root: whether the node is of whole objects.
    """
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
    declared = _declared(schema, is_root=is_root)
    for index, rule in enumerate(written):
        _check_one(causes, rule, f"{path}.{RULES}[{index}]", declared, has_past=has_past)


def _declared(schema: Mapping[str, Any], *, is_root: bool) -> CelType:
    """The type of `self`; `dyn` when the schema says none, which is a mistake of its own."""
    if is_root:
        return declared_type(root_schema(schema), _SELF_TYPE, is_root=True) or DYN
    return declared_type(CustomSchema(schema), _SELF_TYPE, is_root=bool(schema.get(EMBEDDED))) or DYN


def _checked(text: str, declared: CelType, *, has_optional_old: bool) -> tuple[CelType, str]:
    """The type of an expression's value, and all that is wrong with the expression; "" when nothing is."""
    old = optional_of(declared) if has_optional_old else declared
    try:
        checked = check_types(text, {"self": declared, "oldSelf": old})
        if not checked.mistakes:
            compiled(text)
    except CelSyntaxError as error:
        return DYN, error.message
    return checked.type, "\n".join(checked.mistakes)


def _check_one(
    causes: Causes, rule: Mapping[str, Any], path: str, declared: CelType, *, has_past: bool
) -> None:
    text, message = str(rule.get("rule") or ""), rule.get("message")
    if not text.strip():
        causes.required(f"{path}.rule", "rule is not specified")
        return
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
    result, wrong = _checked(text, declared, has_optional_old=has_optional_old)
    if wrong:
        causes.invalid(f"{path}.rule", text, f"compilation failed: {wrong}")
        return
    if result.name not in ("bool", "dyn"):
        causes.invalid(f"{path}.rule", text, "cel expression must evaluate to a bool")
    uses_old = "oldSelf" in compiled(text).variables
    if uses_old and not has_past and not has_optional_old:
        where = "oldSelf cannot be used on the uncorrelatable portion of the schema"
        causes.invalid(f"{path}.rule", text, f"{where}: its list is not of type map")
    if rule.get("optionalOldSelf") is not None and not uses_old:
        text_of = "option optionalOldSelf is set, but oldSelf is not used in the rule"
        causes.invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], text_of)
    if expression := rule.get("messageExpression"):
        made, wrong = _checked(str(expression), declared, has_optional_old=has_optional_old)
        if wrong:
            text_of = f"messageExpression compilation failed: {wrong}"
            causes.invalid(f"{path}.messageExpression", expression, text_of)
        elif made.name not in ("string", "dyn"):
            text_of = "messageExpression must evaluate to a string"
            causes.invalid(f"{path}.messageExpression", expression, text_of)
