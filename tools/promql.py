"""Read PromQL into a tree whose nodes know where in the text they stand.

For tools that look into rules, or change one thing in them and leave the rest of the text as it is. A parser of its
own, since those that can be had keep no positions; Prometheus itself decides whether an expression is valid.

    tree = parse('sum by (job) (rate(errors_total{job="api"}[5m])) > 3')
    [node.name for node in walk(tree) if isinstance(node, Selector)]    # ["errors_total"]

Grammar: https://prometheus.io/docs/prometheus/latest/querying/basics/, without native histograms' literals.
Standard library only.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

AGGREGATIONS: Final = frozenset(
    ("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "bottomk", "topk", "quantile", "count_values")
)
SET_OPERATORS: Final = frozenset(("and", "or", "unless"))
COMPARISONS: Final = frozenset(("==", "!=", ">", "<", ">=", "<="))
_PRECEDENCE: Final = {
    "or": 1,
    "and": 2,
    "unless": 2,
    **dict.fromkeys(COMPARISONS, 3),
    "+": 4,
    "-": 4,
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_TOKEN: Final = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
      | (?P<duration>(?:\d+(?:ms|[smhdwy]))+)
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      | (?P<word>[a-zA-Z_][a-zA-Z0-9_:]*)
      | (?P<operator>=~|!~|==|!=|>=|<=|[-+*/%^<>=(){}\[\],@:])""",
    re.VERBOSE,
)
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


class PromQLError(Exception):
    """An expression that cannot be read; the text says what stands where something else should."""


@dataclass(frozen=True)
class Node:
    """A part of the expression: `text[start:end]`."""

    start: int
    end: int


@dataclass(frozen=True)
class Token(Node):
    """A word, a sign or a literal as it stands in the text."""

    kind: str
    text: str


@dataclass(frozen=True)
class Duration(Node):
    """A length of time, in seconds."""

    seconds: float


@dataclass(frozen=True)
class Number(Node):
    """A number literal."""

    value: float


@dataclass(frozen=True)
class String(Node):
    """A string literal; `value` is what stands between the quotes."""

    value: str


@dataclass(frozen=True)
class Matcher(Node):
    """One condition of a selector: `label`, operator (=, !=, =~, !~), `value`."""

    label: str
    operator: Token
    value: String


@dataclass(frozen=True)
class Selector(Node):
    """Series by name (empty where only matchers say it) and labels."""

    name: str
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True)
class Window(Node):
    """`expression[range]`, or with a step a subquery: `expression[range:step]`."""

    expression: Node
    range: Duration
    step: Duration | None


@dataclass(frozen=True)
class Offset(Node):
    """`expression offset duration`."""

    expression: Node
    duration: Duration


@dataclass(frozen=True)
class Call(Node):
    """A function and its arguments."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Aggregation(Node):
    """`operation by (labels) (arguments)`; `grouping` is by, without, or empty."""

    operation: Token
    grouping: str
    labels: tuple[str, ...]
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Unary(Node):
    """A sign before an expression."""

    expression: Node


@dataclass(frozen=True)
class Group(Node):
    """An expression in parentheses."""

    expression: Node


@dataclass(frozen=True)
class Binary(Node):
    """Two sides and what joins them; `matching` (on, ignoring) and `grouping` (group_left, …) may be empty."""

    left: Node
    operator: Token
    is_bool: bool
    matching: str
    labels: tuple[str, ...]
    grouping: str
    included: tuple[str, ...]
    right: Node


def parse(text: str) -> Node:
    """Return the tree of an expression. Raises PromQLError."""
    parser = _Parser(text)
    tree = parser.expression(0)
    parser.expect("")
    return tree


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all that stand in it, from the outside in and from left to right."""
    yield node
    for field in fields(node):
        value = getattr(node, field.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Node):
                yield from walk(child)


def seconds(text: str) -> float:
    """Return the seconds of a duration such as `1h30m`."""
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._position = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._next
        self._position += 1
        return token

    def _accept(self, *texts: str) -> Token | None:
        return self._take() if self._next.text in texts and self._next.kind != "string" else None

    def expect(self, text: str) -> Token:
        """Take the token that must come next; the empty one is the end."""
        if self._next.text != text:
            raise PromQLError(
                f"At {self._next.start}: {self._next.text or 'the end'!r} instead of {text or 'the end'!r}."
            )
        return self._next if not text else self._take()

    def expression(self, lowest: int) -> Node:
        left = self._unary()
        while (precedence := _PRECEDENCE.get(self._next.text, 0)) > lowest and self._next.kind != "string":
            operator = self._take()
            is_bool = self._accept("bool") is not None
            matching, labels = self._labelled("on", "ignoring")
            grouping, included = self._labelled("group_left", "group_right")
            # Only powers associate to the right.
            right = self.expression(precedence - (operator.text == "^"))
            left = Binary(left.start, right.end, left, operator, is_bool, matching, labels, grouping, included, right)
        return left

    def _labelled(self, *words: str) -> tuple[str, tuple[str, ...]]:
        word = self._accept(*words)
        if not word:
            return "", ()
        labels: list[str] = []
        if self._accept("("):
            while not self._accept(")"):
                labels.append(self._take().text)
                self._accept(",")
        return word.text, tuple(labels)

    def _unary(self) -> Node:
        sign = self._accept("+", "-")
        if not sign:
            return self._postfix(self._primary())
        expression = self.expression(_PRECEDENCE["*"])
        return Unary(sign.start, expression.end, expression)

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._accept("["):
                length, step = self._duration(), None
                if self._accept(":"):
                    step = None if self._next.text == "]" else self._duration()
                node = Window(node.start, self.expect("]").end, node, length, step)
            elif self._accept("offset"):
                duration = self._duration()
                node = Offset(node.start, duration.end, node, duration)
            else:
                return node

    def _duration(self) -> Duration:
        token = self._take()
        if token.kind != "duration":
            raise PromQLError(f"At {token.start}: {token.text!r} instead of a duration.")
        return Duration(token.start, token.end, seconds(token.text))

    def _primary(self) -> Node:
        token = self._take()
        match token.kind:
            case "number":
                return Number(token.start, token.end, float(token.text))
            case "string":
                return String(token.start, token.end, token.text[1:-1])
            case "word":
                return self._named(token)
        if token.text == "(":
            inner = self.expression(0)
            return Group(token.start, self.expect(")").end, inner)
        if token.text == "{":
            self._position -= 1
            return self._selector(token, "")
        raise PromQLError(f"At {token.start}: {token.text or 'the end'!r} where an expression should begin.")

    def _named(self, word: Token) -> Node:
        if word.text in AGGREGATIONS and self._next.text in {"by", "without", "("}:
            return self._aggregation(word)
        if self._next.text == "(":
            arguments, end = self._arguments()
            return Call(word.start, end, word.text, arguments)
        return self._selector(word, word.text)

    def _aggregation(self, operation: Token) -> Node:
        grouping, labels = self._labelled("by", "without")
        arguments, end = self._arguments()
        if not grouping:
            grouping, labels = self._labelled("by", "without")
            end = self._tokens[self._position - 1].end
        return Aggregation(operation.start, end, operation, grouping, labels, arguments)

    def _arguments(self) -> tuple[tuple[Node, ...], int]:
        self.expect("(")
        arguments: list[Node] = []
        while not (closing := self._accept(")")):
            arguments.append(self.expression(0))
            if self._next.text != ")":
                self.expect(",")
        return tuple(arguments), closing.end

    def _selector(self, first: Token, name: str) -> Node:
        matchers: list[Matcher] = []
        end = first.end
        if self._accept("{"):
            while not (closing := self._accept("}")):
                label, operator, value = self._take(), self._take(), self._take()
                literal = String(value.start, value.end, value.text[1:-1])
                matchers.append(Matcher(label.start, value.end, label.text, operator, literal))
                if self._next.text != "}":
                    self.expect(",")
            end = closing.end
        return Selector(first.start, end, name, tuple(matchers))


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise PromQLError(f"At {position}: {text[position]!r} has no meaning.")
        position = found.end()
        if found.lastgroup and found.lastgroup != "space":
            yield Token(found.start(), found.end(), found.lastgroup, found[0])
    yield Token(len(text), len(text), "end", "")
