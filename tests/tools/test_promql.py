"""The parser of PromQL: what stands where, and what binds how."""

import pytest

from tests.pack.files import rules
from tools.promql import (
    Aggregation,
    Binary,
    Call,
    Duration,
    Group,
    Matcher,
    Node,
    Number,
    Offset,
    PromQLError,
    Selector,
    String,
    Unary,
    Window,
    parse,
    seconds,
    walk,
)


def shape(node: Node) -> str:
    """Return an expression with a parenthesis around everything that joins two sides."""
    match node:
        case Binary():
            return f"({shape(node.left)} {node.operator.text} {shape(node.right)})"
        case Group(expression=inner):
            return shape(inner)
        case Unary(expression=inner):
            return f"-{shape(inner)}"
        case Selector():
            return node.name
        case Number():
            return f"{node.value:g}"
    return type(node).__name__


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a or b and c", "(a or (b and c))"),
        ("a and b unless c", "((a and b) unless c)"),
        ("a > b + c * d", "(a > (b + (c * d)))"),
        ("a - b - c", "((a - b) - c)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("(a or b) and on () c", "((a or b) and c)"),
        ("-a ^ 2 * b", "(-(a ^ 2) * b)"),
        ("a # or b\n  == bool on (x) group_left (y) 1.5e1", "(a == 15)"),
    ],
)
def test_operators_bind_as_in_prometheus(text: str, expected: str) -> None:
    """Or binds least, then and with unless, comparisons, sums, products, powers."""
    assert shape(parse(text)) == expected


def test_every_part_knows_its_place() -> None:
    """A selector with matchers, a window, a subquery, an offset and an aggregation stand where the text has them."""
    text = 'max by (a, b) (rate(x_total{y=~"1|2", z!=""}[5m] offset 1h30m)) > on () group_left () q[1h:5m]'
    tree = parse(text)
    found = [(type(node), text[node.start : node.end]) for node in walk(tree)]
    assert (Aggregation, 'max by (a, b) (rate(x_total{y=~"1|2", z!=""}[5m] offset 1h30m))') in found
    assert (Matcher, 'y=~"1|2"') in found
    assert (String, '""') in found
    assert (Window, 'x_total{y=~"1|2", z!=""}[5m]') in found
    assert (Offset, 'x_total{y=~"1|2", z!=""}[5m] offset 1h30m') in found
    assert (Window, "q[1h:5m]") in found
    assert [node.seconds for node in walk(tree) if isinstance(node, Duration)] == [300, 5400, 3600, 300]
    assert isinstance(tree, Binary)
    assert (tree.matching, tree.labels, tree.grouping, tree.included) == ("on", (), "group_left", ())
    assert isinstance(tree.left, Aggregation)
    assert (tree.left.grouping, tree.left.labels) == ("by", ("a", "b"))


def test_words_in_strings_are_not_operators() -> None:
    """A label value that reads like an operator stays a value, whichever quotes it has."""
    tree = parse('label_replace(a, \'or\', `unless`, "x", "(and)")')
    assert isinstance(tree, Call)
    assert [node.value for node in tree.arguments if isinstance(node, String)] == ["or", "unless", "x", "(and)"]


@pytest.mark.parametrize("text", ["", "a +", "sum(a", "a{b=}", "a[b]", "a b", "a ? b", ")"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    """Nothing that is cut off, doubled or unknown is read as something else."""
    with pytest.raises(PromQLError):
        parse(text)


def test_durations_add_up() -> None:
    """Hours and minutes stand side by side; a minute is no millisecond."""
    assert [seconds("1h30m"), seconds("5m"), seconds("250ms"), seconds("3w")] == [5400, 300, 0.25, 1814400]


def test_the_packs_own_expressions_are_read() -> None:
    """Every rule of the pack has a tree that spans its whole text."""
    for rule in rules():
        text = rule["expr"].strip()
        tree = parse(text)
        assert (tree.start, tree.end) == (0, len(text))
