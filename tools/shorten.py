"""Make a copy of the rules in which all time runs faster, for tests on real servers that cannot wait for an hour.

    python -m tools.shorten rules build/short --factor 20 --set 'auraconnect:load:threshold{severity="info"}=0.3'

Divided by the factor: `for`, `keep_firing_for`, intervals of groups, windows and offsets, and recorded limits that are
lengths of time. A limit on how long a request may take is not: requests do not become faster. `--set` gives a limit
another value.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tools.promql import Duration, parse, seconds, walk

_LENGTHS_OF_TIME: Final = re.compile(r"auraconnect:(?!response_time)\w+(:seconds|_seconds:threshold)")


def shorten(rules: Path, output: Path, factor: float, limits: Mapping[str, float]) -> list[Path]:
    """Write the shortened rule files of a folder into another one; return their paths.

    `limits` are values by selector as in `auraconnect:error_ratio:threshold{severity="info"}`. Raises ValueError for
    one that the rules do not record.
    """
    written, unknown = [], set(limits)
    for path in sorted([*rules.glob("*.yml"), *rules.glob("alerts/*.yml")]):
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            if "interval" in group:
                group["interval"] = _shorter(seconds(group["interval"]), factor)
            for rule in group["rules"]:
                _shorten_rule(rule, factor)
                selector = _selector(rule)
                if selector in limits:
                    rule["expr"] = f"vector({limits[selector]})"
                    unknown.discard(selector)
        copy = output / path.relative_to(rules)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(yaml.safe_dump(document, sort_keys=False))
        written.append(copy)
    if unknown:
        raise ValueError(f"The rules in {rules} record no {', '.join(sorted(unknown))}.")
    return written


def _shorten_rule(rule: dict[str, Any], factor: float) -> None:
    for key in ("for", "keep_firing_for"):
        if key in rule:
            rule[key] = _shorter(seconds(rule[key]), factor)
    rule["expr"] = shorten_expression(str(rule["expr"]), factor)
    if _LENGTHS_OF_TIME.fullmatch(rule.get("record", "")):
        length = float(rule["expr"].strip().removeprefix("vector(").removesuffix(")"))
        rule["expr"] = f"vector({length / factor:g})"


def shorten_expression(text: str, factor: float) -> str:
    """Return an expression whose windows and offsets are shorter; all else stays as it is."""
    durations = [node for node in walk(parse(text)) if isinstance(node, Duration)]
    # From the last to the first, so that the places of those before stay right.
    for node in sorted(durations, key=lambda node: node.start, reverse=True):
        text = text[: node.start] + _shorter(node.seconds, factor) + text[node.end :]
    return text


def _shorter(length: float, factor: float) -> str:
    return f"{max(1, round(length * 1000 / factor))}ms"


def _selector(rule: Mapping[str, Any]) -> str:
    matchers = ", ".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items())
    return f"{rule.get('record')}{{{matchers}}}"


def main(arguments: Sequence[str]) -> int:
    """Write the copy; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.shorten", description="Rules in which time runs faster.")
    parser.add_argument("rules", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--factor", type=float, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="SELECTOR=VALUE", dest="limits")
    options = parser.parse_args(arguments)
    limits = {selector: float(value) for selector, _, value in (entry.rpartition("=") for entry in options.limits)}
    try:
        shorten(options.rules, options.output, options.factor, limits)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
