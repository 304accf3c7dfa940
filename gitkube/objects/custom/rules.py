"""What the rules of a definition say about an object.

The walk goes along the schema, with the past of each value beside it where it is known, and asks the rules of
every node. All rules of an object share one budget, and each evaluation has its own within it, so that a rule
that would take too long refuses the object instead of holding the server. A rule about a value that has not
changed, and that is not about the change, is not held against an update.
Source: k8s.io/apiextensions-apiserver, pkg/apiserver/schema/cel/validation.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from gitkube.objects.cel import (
    PER_OBJECT_UNITS,
    Budget,
    CelBudgetExceeded,
    CelEvaluationError,
    CelSyntaxError,
)
from gitkube.objects.cel.values import NONE, Optional
from gitkube.objects.custom.checking import MISSING, by_map_keys, json_type, map_key, same
from gitkube.objects.custom.rule_texts import MAX_MESSAGE, Rule, rule_of
from gitkube.objects.custom.rule_values import to_cel
from gitkube.objects.custom.schema import CustomSchema
from gitkube.objects.schema import Schema
from gitkube.objects.types import Object
from gitkube.objects.validation.causes import Causes

BLOCKING = frozenset(
    {"FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"}
)
"""After these an object is too wrong for rules to be asked about it."""
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to "
    "complete validation"
)
_KINDS_OF_CAUSE = {
    "FieldValueRequired": "Required value",
    "FieldValueForbidden": "Forbidden",
}
_STEP = re.compile(r"\.([^.\[\]]+)|\['([^']+)'\]")


def check_rules(causes: Causes, schema: CustomSchema, obj: Object, old: Object | None) -> None:
    """Add a cause for every rule that does not hold."""
    if not schema.has_rules:
        return
    if any(cause["reason"] in BLOCKING for cause in causes.list):
        causes.add("FieldValueInvalid", "<nil>", f"Invalid value: null: {_NOT_CHECKED}")
        return
    walk = _Walk(causes)
    try:
        walk.node(schema, obj, MISSING if old is None else old, "")
    except CelBudgetExceeded:
        text = "validation failed due to running out of cost budget, no further validation rules will be run"
        causes.add("FieldValueInvalid", "<nil>", f'Invalid value: "": {text}')


class _Walk:
    def __init__(self, causes: Causes) -> None:
        self._causes = causes
        self._budget = Budget(PER_OBJECT_UNITS)

    def node(self, schema: Schema | None, value: Any, old: Any, path: str) -> None:
        if not isinstance(schema, CustomSchema) or not schema.has_rules or value is None:
            return
        if schema.rules:
            self._rules(schema, value, old, path)
        if isinstance(value, dict):
            past = old if isinstance(old, dict) else {}
            for field, item in value.items():
                place = f"{path}.{field}" if path else field
                self.node(schema.declared(field), item, past.get(field, MISSING), place)
        elif isinstance(value, list):
            before = by_map_keys(schema.raw, old)
            for index, item in enumerate(value):
                past = before.get(map_key(schema.list_map_keys, item), MISSING) if before else MISSING
                self.node(schema.items, item, past, f"{path}[{index}]")

    def _rules(self, schema: CustomSchema, value: Any, old: Any, path: str) -> None:
        is_new = old is MISSING or old is None
        is_same = not is_new and same(value, old)
        bindings: dict[str, object] = {"self": to_cel(schema, value)}
        if not is_new:
            bindings["oldSelf"] = to_cel(schema, old)
        for rule in rules_of(schema):
            if is_same or (is_new and rule.is_transition):
                continue
            given = bindings
            if rule.has_optional_old:
                given = {**bindings, "oldSelf": NONE if is_new else Optional(True, bindings["oldSelf"])}
            self._rule(rule, given, value, path)

    def _rule(self, rule: Rule, bindings: Mapping[str, object], value: Any, path: str) -> None:
        part = self._budget.part()
        why = ""
        try:
            if rule.program.evaluate(bindings, part) is True:
                return
        except CelEvaluationError as error:
            why = f"{error.message} evaluating rule: {rule.message or rule.text}"
        except CelBudgetExceeded:
            why = (
                "validation failed due to running out of cost budget, no further validation rules will be "
                f"run: {rule.message or rule.text}"
            )
        finally:
            self._budget.settle(part)
        if why:
            self._causes.invalid(path or "<nil>", json_type(value), why)
        else:
            self._add(rule, bindings, value, path)

    def _add(self, rule: Rule, bindings: Mapping[str, object], value: Any, path: str) -> None:
        text = self._message(rule, bindings) or rule.message or f"failed rule: {rule.text}"
        place = _place(path, rule.field_path) or "<nil>"
        if rule.reason == "FieldValueDuplicate":
            self._causes.duplicate(place, value if not isinstance(value, dict | list) else json_type(value))
        elif rule.reason in _KINDS_OF_CAUSE:
            self._causes.add(rule.reason, place, f"{_KINDS_OF_CAUSE[rule.reason]}: {text}")
        else:
            self._causes.invalid(place, json_type(value), text)

    def _message(self, rule: Rule, bindings: Mapping[str, object]) -> str:
        """What the message expression says; "" when it says nothing that can be shown."""
        if rule.message_program is None:
            return ""
        part = self._budget.part()
        try:
            made = rule.message_program.evaluate(bindings, part)
        except (CelEvaluationError, CelBudgetExceeded):
            return ""
        finally:
            self._budget.settle(part)
        if not isinstance(made, str) or not made.strip() or "\n" in made:
            return ""
        return made.strip() if len(made) <= MAX_MESSAGE else ""


@lru_cache(maxsize=4096)
def rules_of(schema: CustomSchema) -> tuple[Rule, ...]:
    """The compiled rules of a node. One that cannot be read was stored past the API, and says nothing."""
    found = []
    for written in schema.rules:
        try:
            found.append(rule_of(written))
        except CelSyntaxError:
            continue
    return tuple(found)


def _place(path: str, below: str) -> str:
    for found in _STEP.finditer(below):
        name = found.group(1) or found.group(2)
        path = f"{path}.{name}" if path else name
    return path
