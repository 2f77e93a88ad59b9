"""YAML without surprises: what a person may have meant in two ways is refused, with the line.

Refused are duplicate keys, keys that are not text, anchors and aliases (they can make a small file huge, or endless),
infinities, deep nesting, tags that build objects, and text that is not clean UTF-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20

_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null"))


class YAMLProblem(Exception):
    """The text can't be used: ``line`` (from 1; 0 when no line is to blame) and one sentence."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Document:
    """What the text says, and the line on which each path of it (``database[0].url``) stands."""

    data: Any
    lines: dict[str, int] = field(default_factory=dict)

    def line(self, path: str) -> int:
        """Return the line of a path, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    """Composes nodes only so deep, and no aliases."""

    depth = 0

    # Dates stay text: what they mean depends on a time zone that stands elsewhere.
    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own attribute
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YAMLProblem(line, "anchors and aliases are not supported, write the value out")
        if self.depth > MAX_DEPTH:
            raise YAMLProblem(line, f"nested deeper than {MAX_DEPTH} levels")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def load(raw: bytes) -> Document:
    """Parse one YAML document. Raises YAMLProblem."""
    if len(raw) > MAX_BYTES:
        raise YAMLProblem(0, f"is larger than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise YAMLProblem(raw.count(b"\n", 0, error.start) + 1, "is not UTF-8 text") from None
    with _one_sentence(text):
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            document = Document({})
            return document if root is None else Document(_value(loader, root, "", document.lines), document.lines)
        finally:
            loader.dispose()


@contextmanager
def _one_sentence(text: str) -> Iterator[None]:
    """Turn PyYAML's errors, which quote whole lines (a password, perhaps), into ours, which don't."""
    try:
        yield
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YAMLProblem(line, "has a character that YAML does not allow") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or "is not valid YAML").split("\n")[0]
        raise YAMLProblem(mark.line + 1 if mark else 0, f"is not valid YAML: {problem}") from None


def _value(loader: _Loader, node: yaml.Node, path: str, lines: dict[str, int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if node.tag not in _TAGS:
        raise YAMLProblem(line, f"has a value of the kind {node.tag.rpartition(':')[2]}, which is not supported")
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, child, f"{path}[{index}]", lines) for index, child in enumerate(node.value)]
    try:
        value = loader.construct_object(node, deep=True)
    except ValueError:
        raise YAMLProblem(line, "is not a value that can be read") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise YAMLProblem(line, "is not a finite number")
    if isinstance(value, str) and not _is_clean(value):
        raise YAMLProblem(line, "has a character that is not allowed")
    return value


def _is_clean(text: str) -> bool:
    """Whether the text can be encoded and holds no NUL: an escape can smuggle in what YAML itself refuses."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _mapping(loader: _Loader, node: yaml.MappingNode, path: str, lines: dict[str, int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if key_node.tag != "tag:yaml.org,2002:str" or not key.isprintable():
            raise YAMLProblem(line, "has a key that is not plain text")
        if key in result:
            raise YAMLProblem(line, f"has the key {key!r} twice")
        child = f"{path}.{key}" if path else key
        lines[child] = line
        result[key] = _value(loader, value_node, child, lines)
    return result
