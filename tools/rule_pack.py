"""The rule pack as a thing with a version: check that its version tells the truth, and pack it.

    python -m tools.rule_pack check      # the rules are those of their version, the changelog names what changed
    python -m tools.rule_pack record     # say that these rules are their version; refused for one that is released
    python -m tools.rule_pack package    # dist/auraconnect-rules-<version>.tar.gz and .yaml (for the operator)

`rules/versions.json` keeps for each version a digest of its rules and the value of each threshold, so that no history
is needed to compare with. The digest is over what the rules mean to Prometheus: a comment changes nothing.
A version is released when its heading in `rules/CHANGELOG.md` has a date.
"""

import argparse
import hashlib
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from gzip import GzipFile
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
_INFO = "auraconnect:rule_pack:info"

Record = dict[str, Any]


class RulePack:
    """The rules of a folder with its changelog and the records of its versions."""

    def __init__(self, rules: Path) -> None:
        self.folder = rules
        self.files = sorted([*rules.glob("*.yml"), *rules.glob("alerts/*.yml")])
        self.groups = [group for path in self.files for group in yaml.safe_load(path.read_text())["groups"]]

    @property
    def version(self) -> str:
        """The version that the rules themselves record."""
        return str(next(rule for rule in self._rules() if rule.get("record") == _INFO)["labels"]["version"])

    @property
    def thresholds(self) -> dict[str, str]:
        """The value of each recorded limit and delay, by its selector."""
        return {
            _selector(rule): str(rule["expr"]).strip().removeprefix("vector(").removesuffix(")")
            for rule in self._rules()
            if re.fullmatch(r"auraconnect:\w+:(threshold|seconds)", rule.get("record", ""))
        }

    @property
    def digest(self) -> str:
        """SHA-256 of all groups, without comments, layout and the version itself."""
        groups = [
            {**group, "rules": [rule for rule in group["rules"] if rule.get("record") != _INFO]}
            for group in self.groups
        ]
        return hashlib.sha256(json.dumps(groups, sort_keys=True).encode()).hexdigest()

    @property
    def record(self) -> Record:
        """What is kept of this version."""
        return {"digest": self.digest, "thresholds": self.thresholds}

    @property
    def _versions(self) -> Path:
        return self.folder / "versions.json"

    def records(self) -> dict[str, Record]:
        """Return what is kept of each version, from the first to the last."""
        records: dict[str, Record] = json.loads(self._versions.read_text()) if self._versions.exists() else {}
        return dict(sorted(records.items(), key=lambda item: _numbers(item[0])))

    def sections(self) -> dict[str, tuple[str, str]]:
        """Return for each version in the changelog its date (empty unless released) and its text."""
        text = (self.folder / "CHANGELOG.md").read_text()
        heading = r"^## \[?(\d+\.\d+\.\d+)\]?(?: - (\d{4}-\d\d-\d\d))?[^\n]*\n(.*?)(?=^## |\Z)"
        found = re.findall(heading, text, re.MULTILINE | re.DOTALL)
        return {version: (date, body) for version, date, body in found}

    def problems(self) -> Iterator[str]:
        """Yield, a sentence each, what is wrong with the version."""
        records, sections = self.records(), self.sections()
        recorded = records.get(self.version)
        if self.version not in sections:
            yield f"rules/CHANGELOG.md has no section for the version {self.version}; write it."
        if recorded is None:
            yield f"The version {self.version} is not recorded; run `python -m tools.rule_pack record`."
        elif recorded != self.record:
            yield f"The rules are no longer those of version {self.version}; {self._what_to_do()}."
        newest = max(records, key=_numbers, default=self.version)
        if _numbers(self.version) < _numbers(newest):
            yield f"The version {self.version} is older than {newest}, which is recorded; raise it."
        for (_, old), (version, new) in pairwise(records.items()):
            text = sections.get(version, ("", ""))[1]
            for selector in changed(old["thresholds"], new["thresholds"]):
                if f"`{selector}`" not in text:
                    yield f"rules/CHANGELOG.md does not name `{selector}`, which version {version} changed."

    def write_record(self) -> None:
        """Record the present rules as their version. Raises ValueError for one that is released and different."""
        records = self.records()
        if self._is_released() and records.get(self.version, self.record) != self.record:
            raise ValueError(f"Version {self.version} is released and its rules were others; {self._what_to_do()}.")
        records[self.version] = self.record
        self._versions.write_text(json.dumps(records, indent=2) + "\n")

    def manifest(self) -> str:
        """Return the rules as one PrometheusRule, as YAML, for the Prometheus operator (0.66 and newer)."""
        document = {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {
                "name": "auraconnect-rules",
                "labels": {"app.kubernetes.io/name": "auraconnect", "app.kubernetes.io/version": self.version},
            },
            "spec": {"groups": self.groups},
        }
        dumped: str = yaml.dump(document, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=120)
        return dumped

    def archive(self) -> bytes:
        """Return a tar.gz of the rules with their tests and changelog; the same rules make the same bytes."""
        buffer = io.BytesIO()
        with (
            GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for path in sorted([*self.files, *self.folder.glob("tests/*.yml"), self.folder / "CHANGELOG.md"]):
                content = path.read_bytes()
                # A TarInfo begins with time 0, owner 0 and mode 0644, whatever the file's are.
                entry = tarfile.TarInfo(f"auraconnect-rules-{self.version}/{path.relative_to(self.folder)}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()

    def _rules(self) -> Iterator[dict[str, Any]]:
        for group in self.groups:
            yield from group["rules"]

    def _is_released(self) -> bool:
        return bool(self.sections().get(self.version, ("", ""))[0])

    def _what_to_do(self) -> str:
        if self._is_released():
            return (
                f"raise the version of {_INFO} in rules/thresholds.yml, describe it in rules/CHANGELOG.md and record it"
            )
        return "record them with `python -m tools.rule_pack record`"


def changed(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return the selectors of thresholds that are new, gone, or of another value."""
    return [selector for selector in sorted(old | new) if old.get(selector) != new.get(selector)]


class _NoAliases(yaml.SafeDumper):
    """Writes what our files share by an anchor in full."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Return that nothing is shared."""
        return True


def _selector(rule: dict[str, Any]) -> str:
    matchers = ", ".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items())
    return f"{rule['record']}{{{matchers}}}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def main(arguments: Sequence[str]) -> int:
    """Check, record or package; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.rule_pack", description="The rule pack and its version.")
    parser.add_argument("action", choices=("check", "record", "package"))
    parser.add_argument("--rules", type=Path, default=ROOT / "rules", help="the folder of rules")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where packages go")
    options = parser.parse_args(arguments)
    pack = RulePack(options.rules)
    if options.action == "record":
        try:
            pack.write_record()
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
    if options.action == "package":
        options.output.mkdir(parents=True, exist_ok=True)
        name = options.output / f"auraconnect-rules-{pack.version}"
        Path(f"{name}.tar.gz").write_bytes(pack.archive())
        Path(f"{name}.yaml").write_text(pack.manifest())
        print(f"{name}.tar.gz", f"{name}.yaml", sep="\n")
    problems = list(pack.problems())
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
