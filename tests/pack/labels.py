"""Which labels the result of an expression can have, read from its text."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tools.promql import SET_OPERATORS, Aggregation, Binary, Call, Group, Node, Offset, Selector, String, Unary, Window
from tools.promql import parse as parse_promql

ANY: Final = "*"
"""Stands for all labels that a scraped series may have, `instance` and `job` among them."""

_WITHOUT_LABELS: Final = frozenset(("vector", "time", "scalar", "pi"))

Known = Mapping[str, frozenset[str]]


def recorded_labels(rules: Iterable[dict[str, Any]]) -> dict[str, frozenset[str]]:
    """Return for each recorded series, by name, the labels that it can have; ALERTS has those of all alerts."""
    every = [(rule.get("record", "ALERTS"), parse_promql(rule["expr"]), rule.get("labels", {})) for rule in rules]
    known: dict[str, frozenset[str]] = {name: frozenset() for name, _, _ in every}
    # Series may be made of one another, or of themselves: again, until nothing is added.
    while True:
        grown = dict(known)
        for name, tree, static in every:
            own = {"alertname", "alertstate"} if name == "ALERTS" else set()
            grown[name] |= labels(tree, grown) | static.keys() | own
        if grown == known:
            return known
        known = grown


def labels(node: Node, known: Known) -> frozenset[str]:
    """Return the labels that an expression's result can have; `known` are those of recorded series."""
    match node:
        case Selector():
            return known.get(node.name.removesuffix("_FOR_STATE"), frozenset((ANY,)))
        case Window(expression=inner) | Offset(expression=inner) | Group(expression=inner) | Unary(expression=inner):
            return labels(inner, known)
        case Aggregation():
            return _aggregated(node, known)
        case Call():
            return _called(node, known)
    return _joined(node, known) if isinstance(node, Binary) else frozenset()


def _aggregated(node: Aggregation, known: Known) -> frozenset[str]:
    inner = labels(node.arguments[-1], known)
    added = {node.arguments[0].value} if isinstance(node.arguments[0], String) else set()  # count_values
    if node.grouping == "without":
        return inner - set(node.labels) | added
    kept = set(node.labels) if ANY in inner else set(node.labels) & inner
    return frozenset(kept | added)


def _called(node: Call, known: Known) -> frozenset[str]:
    if node.name in _WITHOUT_LABELS:
        return frozenset()
    if node.name == "absent":
        inner = node.arguments[0]
        selector = inner.left if isinstance(inner, Binary) else inner
        # A comparison inside leaves nothing to take labels from.
        return frozenset(
            matcher.label
            for matcher in (selector.matchers if isinstance(selector, Selector) and selector is inner else ())
            if matcher.operator.text == "="
        )
    inner_labels = frozenset[str]().union(*(labels(argument, known) for argument in node.arguments))
    written = node.arguments[1] if node.name in {"label_replace", "label_join"} else None
    return inner_labels | {written.value} if isinstance(written, String) else inner_labels


def _joined(node: Binary, known: Known) -> frozenset[str]:
    left, right = labels(node.left, known), labels(node.right, known)
    if node.operator.text in SET_OPERATORS:
        return left | right if node.operator.text == "or" else left
    if node.grouping:
        many = left if node.grouping == "group_left" else right
        return many | set(node.included)
    if node.matching == "on":
        return frozenset(node.labels)
    if not left or not right:  # a number, or nothing to tell apart
        return left | right
    return left - set(node.labels)
