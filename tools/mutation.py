"""Change the rules in one place at a time and see whether some test notices.

    python -m tools.mutation [--only alerts/errors.yml[:26]]… [--jobs 2] [--rules rules] [--release newest]

Changed in turn, of every rule: numbers (thresholds among them), comparisons, windows and offsets, label matchers, the
sides of `and`, `or` and `unless`, `for` and `keep_firing_for`, and the label `severity`. Left as it is: by how much is
rounded, and the number of a `vector(1)` that is no limit, since such a rule says only that it is there (`Watchdog`,
versions and addresses in labels, "was this known then").

A mutant is killed when a promtool test fails on it; only tests run that can notice: those of the alerts that read what
was changed, directly or through recorded series, and those that name it. Each case of a test file runs apart, those
nearest to the change first and of them the quickest, until one fails: promtool would go through all of them. A mutant
that promtool itself refuses is none.

Prints the score and the survivors. Exit status 1 when less than 95% were killed, or when a threshold or a severity
survived; 2 when a test fails on the rules as they are.
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tools.promql import SET_OPERATORS, Binary, Call, Duration, Matcher, Node, Number, Selector, parse, seconds, walk
from tools.servers import program

BAR: Final = 0.95
ALWAYS: Final = frozenset(("threshold", "severity"))
"""Kinds of which none may survive."""

_TIMEOUT: Final = 180.0
_COMPARISONS: Final = {
    ">": (">=", "<"),
    ">=": (">", "<="),
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    "==": ("!=",),
    "!=": ("==",),
}
_MATCHING: Final = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
_SEVERITIES: Final = {"critical": "warning", "warning": "critical", "info": "warning", "none": "info"}


@dataclass(frozen=True)
class Mutant:
    """One change: `text[start:end]` of a file becomes `replacement`."""

    file: str
    rule: str
    kind: str
    line: int
    start: int
    end: int
    original: str
    replacement: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.original, self.replacement))
        return f"{self.file}:{self.line}: {self.rule}: {self.kind}: {_short(old)} → {_short(new)}"

    def applied(self, text: str) -> str:
        """Return the file's text with the change."""
        return text[: self.start] + self.replacement + text[self.end :]


def mutants(file: str, text: str) -> Iterator[Mutant]:
    """Yield every mutant of a rule file, in the order of the file."""
    document = yaml.compose(text)
    for rule in _rules(document) if isinstance(document, yaml.MappingNode) else ():
        name = (rule.get("record") or rule["alert"]).value
        for kind, start, end, replacement in _changes(name, rule, text):
            line = text.count("\n", 0, start) + 1
            yield Mutant(file, name, kind, line, start, end, text[start:end], replacement)


_Change = tuple[str, int, int, str]


def _rules(document: yaml.MappingNode) -> Iterator[dict[str, Any]]:
    """Yield each rule's YAML nodes by key; they know where in the text they stand."""
    for group in _mapping(document)["groups"].value:
        yield from (_mapping(rule) for rule in _mapping(group)["rules"].value)


def _mapping(node: yaml.MappingNode) -> dict[str, Any]:
    return {key.value: value for key, value in node.value}


def _changes(name: str, rule: dict[str, Any], text: str) -> Iterator[_Change]:
    start, end = _span(rule["expr"], text)
    for kind, first, last, replacement in _expression_changes(name, text[start:end]):
        yield kind, start + first, start + last, replacement
    for key in ("for", "keep_firing_for"):
        if key in rule:
            start, end = _span(rule[key], text)
            for changed in _lengths(seconds(rule[key].value)):
                yield key, start, end, changed
    severity = _mapping(rule["labels"]).get("severity") if "labels" in rule else None
    if severity is not None:
        yield "severity", *_span(severity, text), _SEVERITIES[severity.value]


def _span(node: yaml.ScalarNode, text: str) -> tuple[int, int]:
    """Return where a scalar's own text stands; a block's begins in the line after its sign."""
    start, end = node.start_mark.index, node.end_mark.index
    if node.style in {"|", ">"}:
        start = text.index("\n", start) + 1
    elif node.style in {"'", '"'}:
        start, end = start + 1, end - 1
    return start, end


def _expression_changes(name: str, text: str) -> Iterator[_Change]:
    tree = parse(text)
    kind = "threshold" if re.fullmatch(r"auraconnect:\w+:(threshold|seconds)", name) else "number"
    if kind != "threshold" and isinstance(tree, Call) and tree.name == "vector":
        return
    # By how much is rounded is noise.
    rounding = {node.arguments[-1].start for node in walk(tree) if isinstance(node, Call) and node.name == "round"}
    for node in walk(tree):
        match node:
            case Number() if node.start not in rounding:
                for changed in _numbers(node.value):
                    yield kind, node.start, node.end, changed
            case Duration():
                for changed in _lengths(node.seconds):
                    yield "duration", node.start, node.end, changed
            case Matcher():
                yield from _matcher_changes(node)
            case Binary():
                yield from _binary_changes(node, text)


def _matcher_changes(node: Matcher) -> Iterator[_Change]:
    yield "matcher", node.operator.start, node.operator.end, _MATCHING[node.operator.text]
    if node.value.value:
        yield "matcher", node.value.start, node.value.end, '"mutated"'


def _binary_changes(node: Binary, text: str) -> Iterator[_Change]:
    for changed in _COMPARISONS.get(node.operator.text, ()):
        yield "comparison", node.operator.start, node.operator.end, changed
    if node.operator.text in SET_OPERATORS:
        for side in (node.left, node.right) if node.operator.text == "or" else (node.left,):
            yield "join", node.start, node.end, f"({text[side.start : side.end]})"


def _numbers(value: float) -> tuple[str, str]:
    """Return a number a little larger and a little smaller: by 1 where it is small and whole, else by a tenth."""
    step = 1.0 if value.is_integer() and value < 10 else value / 10  # noqa: PLR2004 - of 10 a tenth is 1
    return tuple(f"{changed:.10g}" if changed >= 0 else f"({changed:.10g})" for changed in (value + step, value - step))  # type: ignore[return-value]  # two of two


def _lengths(length: float) -> tuple[str, str]:
    """Return a duration twice and half as long."""
    return f"{round(length * 2)}s", f"{round(length * 500)}ms"


class Suite:
    """A pack's promtool tests, and which of them can notice a change."""

    def __init__(self, rules: Path) -> None:
        self.paths = sorted(rules.glob("tests/*.yml"))
        self._texts = {path: path.read_text() for path in self.paths}
        self._loads = {
            path: {(path.parent / name).resolve() for name in yaml.safe_load(text)["rule_files"]}
            for path, text in self._texts.items()
        }
        self._root = rules.resolve()
        self._readers = _readers(rules)

    def that_notice(self, mutant: Mutant) -> dict[Path, int]:
        """Return the tests that can notice, each with its distance from the change.

        0 for the changed alert's own test, 1 for those of alerts that read the changed rule, and so on; those that
        only name it, or play several alerts together, come last.
        """
        distances = {mutant.rule: 0}
        while grown := {
            reader for name in distances for reader in self._readers.get(name, ()) if reader not in distances
        }:
            distances |= dict.fromkeys(grown, max(distances.values()) + 1)
        last = max(distances.values()) + 1
        noticing: dict[Path, int] = {}
        for path in self.paths:
            if self._root / mutant.file in self._loads[path]:
                if path.stem in distances:
                    noticing[path] = distances[path.stem]
                elif path.stem.startswith("interplay_") or mutant.rule in self._texts[path]:
                    noticing[path] = last
        return dict(sorted(noticing.items(), key=lambda item: item[1]))


def _readers(rules: Path) -> dict[str, set[str]]:
    """Return for each rule, by name, the rules that read it; ALERTS reads the alerts whose names it matches."""
    every = [
        rule
        for path in [*rules.glob("*.yml"), *rules.glob("alerts/*.yml")]
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    alerts = {rule["alert"] for rule in every if "alert" in rule}
    readers: dict[str, set[str]] = {}
    for rule in every:
        for node in walk(parse(rule["expr"])):
            for name in _read(node, alerts):
                readers.setdefault(name, set()).add(rule.get("record", rule.get("alert")))
    return readers


def _read(node: Node, alerts: set[str]) -> set[str]:
    if not isinstance(node, Selector):
        return set()
    if node.name != "ALERTS":
        return {node.name}
    named = [
        matcher.value.value
        for matcher in node.matchers
        if (matcher.label, matcher.operator.text[0]) == ("alertname", "=")
    ]
    return {alert for alert in alerts if all(re.fullmatch(pattern, alert) for pattern in named)}


def cases(text: str) -> Iterator[str]:
    """Yield the cases of a test file, each as a file of its own.

    As nodes, not as values: promtool takes `0x60` for sixty zeros, and Python for 96.
    """
    document = yaml.compose(text)
    tests = _mapping(document).get("tests") if isinstance(document, yaml.MappingNode) else None
    if tests is None:
        return
    for case in list(tests.value):
        tests.value = [case]
        yield yaml.serialize(document, Dumper=yaml.SafeDumper)


@dataclass(frozen=True)
class Case:
    """One case of a test file, `number` from 1; `seconds` is how long it takes on the rules as they are."""

    test: Path
    number: int
    seconds: float
    passes: bool

    def __str__(self) -> str:
        return f"{self.test.name}, case {self.number},"


class Bench:
    """Copies of a pack, one for each process that runs at a time, in which mutants are tried."""

    def __init__(self, rules: Path, folder: Path, jobs: int, promtool: Path) -> None:
        self._promtool, self._jobs = promtool, jobs
        self._environment = {**os.environ, "GOMAXPROCS": "1", "GOGC": "400"}
        self._copies: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            copy = Path(shutil.copytree(rules, folder / str(number)))
            for path in copy.glob("tests/*.yml"):
                for case, text in enumerate(cases(path.read_text()), 1):
                    path.with_suffix(f".{case}.yml").write_text(text)
            self._copies.put(copy)

    def try_cases(self, tests: Sequence[Path]) -> list[Case]:
        """Run every case of these tests on the rules as they are."""
        every = [(test, number) for test in tests for number, _ in enumerate(cases(test.read_text()), 1)]
        with ThreadPoolExecutor(self._jobs) as workers:
            return list(workers.map(lambda each: self._case(*each), every))

    def _case(self, test: Path, number: int) -> Case:
        copy = self._copies.get()
        try:
            began = time.monotonic()
            passes = self._passes(copy, test, number)
            return Case(test, number, time.monotonic() - began, passes)
        finally:
            self._copies.put(copy)

    def try_all(
        self, changes: Sequence[Mutant], suite: Suite, measured: Sequence[Case]
    ) -> Iterator[tuple[Mutant, str]]:
        """Yield each mutant with its fate, in order: killed, survived or refused."""
        with ThreadPoolExecutor(self._jobs) as workers:
            fates = workers.map(lambda mutant: self._fate(mutant, _in_order(mutant, suite, measured)), changes)
            yield from zip(changes, fates, strict=True)

    def _fate(self, mutant: Mutant, noticing: Sequence[Case]) -> str:
        copy = self._copies.get()
        path = copy / mutant.file
        text = path.read_text()
        try:
            path.write_text(mutant.applied(text))
            if not self._succeeds("check", "rules", path):
                return "refused"
            return "survived" if all(self._passes(copy, case.test, case.number) for case in noticing) else "killed"
        finally:
            path.write_text(text)
            self._copies.put(copy)

    def _passes(self, copy: Path, test: Path, number: int) -> bool:
        return self._succeeds("test", "rules", copy / "tests" / f"{test.stem}.{number}.yml")

    def _succeeds(self, *arguments: str | Path) -> bool:
        try:
            done = subprocess.run(
                [self._promtool, *arguments],
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def _in_order(mutant: Mutant, suite: Suite, measured: Sequence[Case]) -> list[Case]:
    """Return the cases that can notice: those nearest to the change first, and of them the quickest."""
    distances = suite.that_notice(mutant)
    noticing = [case for case in measured if case.test in distances]
    return sorted(noticing, key=lambda case: (distances[case.test], case.seconds))


def report(fates: Sequence[tuple[Mutant, str]]) -> tuple[str, bool]:
    """Return the score and the survivors as text, and whether that is good enough."""
    counted = Counter((mutant.kind, fate) for mutant, fate in fates)
    survivors = [mutant for mutant, fate in fates if fate == "survived"]
    tried = sum(number for (_, fate), number in counted.items() if fate != "refused")
    score = 1 - len(survivors) / tried if tried else 1.0
    lines = ["| changed | killed | survived |", "|---|---|---|"]
    lines += [
        f"| {kind} | {counted[kind, 'killed']} | {counted[kind, 'survived']} |"
        for kind in sorted({kind for kind, _ in counted})
    ]
    lines += ["", f"Score: {score:.1%} of {tried} ({len(fates) - tried} more were refused)."]
    lines += [f"Survived: {mutant}" for mutant in survivors]
    return "\n".join(lines), score >= BAR and not any(mutant.kind in ALWAYS for mutant in survivors)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]} … {text[-18:]}"  # noqa: PLR2004 - a line's width


def main(arguments: Sequence[str]) -> int:
    """Try all mutants and print what became of them; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description="Are the rules' tests any good?")
    parser.add_argument("--rules", type=Path, default=Path(__file__).parents[1] / "rules", help="the pack")
    only = "rules of this file, or what is changed in this line, as in alerts/errors.yml:26"
    parser.add_argument("--only", metavar="FILE[:LINE]", action="append", help=only)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--release", default="newest", help="of promtool (default: %(default)s)")
    options = parser.parse_args(arguments)
    rules = options.rules.resolve()
    files = [path.relative_to(rules).as_posix() for path in sorted([*rules.glob("*.yml"), *rules.glob("alerts/*.yml")])]
    changes = [
        mutant
        for file in files
        for mutant in mutants(file, (rules / file).read_text())
        if options.only is None or {file, f"{file}:{mutant.line}"} & set(options.only)
    ]
    if not changes:
        parser.error(f"there is nothing to change in {options.only or rules}")
    suite = Suite(rules)
    asked = sorted({path for mutant in changes for path in suite.that_notice(mutant)})
    fates: list[tuple[Mutant, str]] = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        bench = Bench(rules, Path(folder), options.jobs, program("promtool", options.release))
        measured = bench.try_cases(asked)
        failing = [case for case in measured if not case.passes]
        for case in failing:
            print(f"{case} fails on the rules as they are; repair that first.", file=sys.stderr)
        if failing:
            return 2
        for mutant, fate in bench.try_all(changes, suite, measured):
            fates.append((mutant, fate))
            if fate == "survived":
                print(f"[{len(fates)}/{len(changes)}] {mutant}", file=sys.stderr, flush=True)
    text, good = report(fates)
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
