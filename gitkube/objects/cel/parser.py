"""From tokens to a tree: CEL's grammar by recursive descent, one method a rule.

Depth is bounded, so that neither this parser nor what walks the tree later can run out of stack; a chain of
`&&` or `||` is one node however long it is.
"""

from __future__ import annotations

from functools import lru_cache

from gitkube.objects.cel.errors import CelSyntaxError
from gitkube.objects.cel.lexer import Token, tokenize
from gitkube.objects.cel.macros import expand_call, expand_method
from gitkube.objects.cel.syntax import (
    RESERVED,
    All,
    Any_,
    Call,
    Choice,
    Index,
    ListOf,
    Literal,
    MapOf,
    Message,
    Name,
    Node,
    Select,
)
from gitkube.objects.cel.values import MAX_INT, Uint

MAX_SOURCE_LENGTH = 16_384
"""Characters of an expression; what people write has a tenth of it."""
MAX_DEPTH = 50
"""Brackets within brackets; each takes about ten Python frames while it is read."""
MAX_CHAIN = 100
"""Members, operands and signs in a row, each of which makes the tree one deeper."""
_REMEMBERED_TREES = 1024
"""Expressions; a definition or a policy has a few dozen."""
_EXPECTED = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, "
    "IDENTIFIER}"
)
_RELATIONS = frozenset(("<", "<=", ">", ">=", "==", "!=", "in"))


@lru_cache(maxsize=_REMEMBERED_TREES)
def parse(source: str) -> Node:
    """The tree of an expression, remembered: who writes one has it judged, priced and compiled.

    Raises:
        CelSyntaxError: it is none, or too long to be looked at.
    """
    if len(source) > MAX_SOURCE_LENGTH:
        why = f"expression code point size exceeds limit: size: {len(source)}, limit {MAX_SOURCE_LENGTH}"
        raise CelSyntaxError(why, source[:80])
    return _Parser(source).whole()


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokenize(source)
        self._position = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._next.kind != "end":
            raise self._unexpected("<EOF>")
        return node

    # ------------------------------------------------------------------ rules

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._too_deep()
        condition = self._or()
        if (at := self._accept("?")) is not None:
            yes = self._or()
            self._expect(":")
            condition = Choice(at.at, condition, yes, self._expression())
        self._depth -= 1
        return condition

    def _or(self) -> Node:
        parts = [self._and()]
        at = self._next.at
        while self._accept("||"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Any_(at, tuple(parts))

    def _and(self) -> Node:
        parts = [self._relation()]
        at = self._next.at
        while self._accept("&&"):
            parts.append(self._relation())
        return parts[0] if len(parts) == 1 else All(at, tuple(parts))

    def _relation(self) -> Node:
        return self._chain(_RELATIONS, self._addition)

    def _addition(self) -> Node:
        return self._chain(("+", "-"), self._multiplication)

    def _multiplication(self) -> Node:
        return self._chain(("*", "/", "%"), self._unary)

    def _chain(self, signs: frozenset[str] | tuple[str, ...], operand: object) -> Node:
        rule = operand
        assert callable(rule)
        left: Node = rule()
        length = 0
        while self._next.kind in signs:
            length += 1
            if length > MAX_CHAIN:
                raise self._too_deep()
            sign = self._take()
            left = Call(sign.at, f"_{sign.kind}_" if sign.kind != "in" else "@in", None, (left, rule()))
        return left

    def _unary(self) -> Node:
        signs: list[Token] = []
        while self._next.kind in ("!", "-"):
            signs.append(self._take())
            if signs[-1].kind != signs[0].kind:
                raise self._unexpected(_EXPECTED, signs[-1])
            if len(signs) > MAX_CHAIN:
                raise self._too_deep()
        if signs and signs[-1].kind == "-" and self._is_number():
            node: Node = self._negative(signs.pop().at)
        else:
            node = self._member()
        for sign in reversed(signs):
            node = Call(sign.at, f"{sign.kind}_", None, (node,))
        return node

    def _is_number(self) -> bool:
        token = self._next
        return token.kind == "literal" and type(token.value) in (int, float)

    def _negative(self, at: int) -> Node:
        # `-1.abs()` is the method of -1 in CEL: the sign is a part of the literal.
        return self._members(Literal(at, -self._take().value))

    def _member(self) -> Node:
        return self._members(self._primary())

    def _members(self, node: Node) -> Node:
        length = 0
        while True:
            length += 1
            if length > MAX_CHAIN:
                raise self._too_deep()
            if (dot := self._accept(".")) is not None:
                is_optional = self._accept("?") is not None
                node = self._selected(node, dot, is_optional)
            elif (bracket := self._accept("[")) is not None:
                is_optional = self._accept("?") is not None
                index = self._expression()
                self._expect("]")
                node = Index(bracket.at, node, index, is_optional)
            elif self._next.kind == "{" and (name := _dotted(node)):
                node = self._message(name, self._take().at)
            else:
                return node

    def _selected(self, node: Node, dot: Token, is_optional: bool) -> Node:
        name = self._next
        if name.kind == "quoted":
            self._take()
            return Select(dot.at, node, name.text, is_optional)
        if name.kind != "name" and name.text not in ("in", "true", "false", "null"):
            raise self._unexpected("IDENTIFIER")
        self._take()
        if is_optional or self._next.kind != "(":
            return Select(dot.at, node, name.text, is_optional)
        opening = self._take()
        arguments = self._arguments(")")
        return expand_method(self._source, opening.at, node, name.text, arguments) or Call(
            opening.at, name.text, node, arguments
        )

    def _primary(self) -> Node:
        token = self._next
        if token.kind == "literal":
            self._take()
            if type(token.value) is int and token.value > MAX_INT and not isinstance(token.value, Uint):
                raise CelSyntaxError("Syntax error: invalid int literal", self._source, token.at)
            return Literal(token.at, token.value)
        if self._accept("("):
            node = self._expression()
            self._expect(")")
            return node
        if self._accept("["):
            return self._list(token.at)
        if self._accept("{"):
            return self._map(token.at)
        leading = self._accept(".")
        name = self._next
        if name.kind != "name":
            raise self._unexpected(_EXPECTED if leading is None else "IDENTIFIER")
        self._take()
        if name.text in RESERVED:
            raise CelSyntaxError(f"reserved identifier: {name.text}", self._source, name.at)
        if (opening := self._accept("(")) is None:
            return Name(name.at, name.text)
        arguments = self._arguments(")")
        return expand_call(self._source, opening.at, name.text, arguments) or Call(
            opening.at, name.text, None, arguments
        )

    # ------------------------------------------------------------------ what stands in brackets

    def _arguments(self, closing: str) -> tuple[Node, ...]:
        arguments: list[Node] = []
        while not self._accept(closing):
            if arguments:
                self._expect(",")
            arguments.append(self._expression())
        return tuple(arguments)

    def _list(self, at: int) -> Node:
        items: list[tuple[Node, bool]] = []
        while not self._accept("]"):
            if items:
                self._expect(",")
                if self._accept("]"):
                    break
            is_optional = self._accept("?") is not None
            items.append((self._expression(), is_optional))
        return ListOf(at, tuple(items))

    def _map(self, at: int) -> Node:
        entries: list[tuple[Node, Node, bool]] = []
        while not self._accept("}"):
            if entries:
                self._expect(",")
                if self._accept("}"):
                    break
            is_optional = self._accept("?") is not None
            key = self._expression()
            self._expect(":")
            entries.append((key, self._expression(), is_optional))
        return MapOf(at, tuple(entries))

    def _message(self, name: str, at: int) -> Node:
        fields: list[tuple[str, Node, bool]] = []
        places: list[int] = []
        while not self._accept("}"):
            if fields:
                self._expect(",")
                if self._accept("}"):
                    break
            is_optional = self._accept("?") is not None
            token = self._take()
            if token.kind not in ("name", "quoted"):
                raise self._unexpected("IDENTIFIER", token)
            places.append(self._expect(":").at)
            fields.append((token.text, self._expression(), is_optional))
        return Message(at, name, tuple(fields), tuple(places))

    # ------------------------------------------------------------------ tokens

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._tokens[self._position]
        if token.kind != "end":
            self._position += 1
        return token

    def _accept(self, kind: str) -> Token | None:
        return self._take() if self._next.kind == kind else None

    def _expect(self, kind: str) -> Token:
        if self._next.kind != kind:
            raise self._unexpected(f"'{kind}'")
        return self._take()

    def _unexpected(self, expected: str, token: Token | None = None) -> CelSyntaxError:
        token = token or self._next
        one_of = (
            "expecting" if token.kind == "end" or expected.startswith("{") else "extraneous input, expecting"
        )
        why = f"Syntax error: mismatched input '{token.text}' {one_of} {expected}"
        return CelSyntaxError(why, self._source, token.at)

    def _too_deep(self) -> CelSyntaxError:
        return CelSyntaxError(
            f"expression recursion limit exceeded: {MAX_DEPTH}", self._source, self._next.at
        )


def _dotted(node: Node) -> str:
    """`Object.spec` of the members that say so; "" of anything else."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Select) and not node.is_optional:
        head = _dotted(node.operand)
        return f"{head}.{node.field}" if head else ""
    return ""
