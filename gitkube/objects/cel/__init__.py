"""CEL, the expression language of Kubernetes' policies, webhooks and custom resources.

`compile_expression` reads a text once (`lexer`, `parser`, `macros`) and makes a tree of Python closures of it
(`compiler`); `Program.evaluate` runs them on plain objects of the API, without converting these first. Every
function that an expression may call is registered in `functions/`, one file a library. Apart from all that,
`checker` judges an expression by the types of what it names, and `cost` by what it could cost at most, when
somebody writes it.

An engine of our own, since the ones that may be had do two things that a server cannot bear: they copy the
whole object into their own values for each evaluation (a millisecond for a Pod, where the expression itself
takes ten microseconds), and nothing bounds what an expression may cost.

What is bounded: the text's length and its depth when it is compiled; steps, and the size of every string and
list that is read or made, by the `Budget` of an evaluation, counted before the work is done; regular
expressions are linear in their input (RE2) and bounded in memory; integers have 64 bits. What is not: the
wall clock, for a budget of a million units is about a third of a second on a slow core; and a list that was
made keeps its memory until the evaluation ends, at most a machine word for each unit of the budget."""

from gitkube.objects.cel.budget import PER_CALL_UNITS, PER_OBJECT_UNITS, Budget
from gitkube.objects.cel.errors import CelBudgetExceeded, CelError, CelEvaluationError, CelSyntaxError
from gitkube.objects.cel.parser import MAX_SOURCE_LENGTH
from gitkube.objects.cel.plain import to_plain
from gitkube.objects.cel.program import Program, compile_expression
from gitkube.objects.cel.values import HostObject

__all__ = [
    "MAX_SOURCE_LENGTH",
    "PER_CALL_UNITS",
    "PER_OBJECT_UNITS",
    "Budget",
    "CelBudgetExceeded",
    "CelError",
    "CelEvaluationError",
    "CelSyntaxError",
    "HostObject",
    "Program",
    "compile_expression",
    "to_plain",
]
