"""The page about the health API says what is true: every call, and examples that work as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from string import Template
from typing import Final

import pytest

from auraconnect_exporter.web.health_api import ERROR_BYTES, WEBHOOK_BYTES
from auraconnect_exporter.web.operations import BODY_BYTES, MAX_DEPTH
from tests.store.support import Place
from tests.web.world import PREFIX, World, world

PAGE: Final = (Path(__file__).parent.parent.parent / "docs/health-api.md").read_text(encoding="utf-8")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[World]:
    async with world(Place("", tmp_path / "data"), tmp_path) as made:
        yield made


async def test_the_table_has_every_call_with_its_role(api: World) -> None:
    """No more and no less than the document has."""
    rows = re.findall(r"^\| `([A-Z]+) (/\S*)` \|.*\| (?:`(\w+)`|for everybody|its signature) \|$", PAGE, re.MULTILINE)
    async with await api.send("GET", "/openapi.json", as_="none") as response:
        paths = (await response.json())["paths"]
    described = {
        (
            method.upper(),
            path.removeprefix(PREFIX) or "/",
            (re.findall(r"role (\w+)", each.get("description", "")) or [""])[0],
        )
        for path, methods in paths.items()
        for method, each in methods.items()
    }
    assert set(rows) == described


async def test_limits_in_the_table_are_those_of_the_document(api: World) -> None:
    """From and to, for each parameter that has them."""
    async with await api.send("GET", "/openapi.json", as_="none") as response:
        paths = (await response.json())["paths"]
    checked = 0
    for path, row in re.findall(r"^\| `GET (/\S*)` \|(.*)\|$", PAGE, re.MULTILINE):
        parameters = {each["name"]: each["schema"] for each in paths[PREFIX + path.rstrip("/")]["get"]["parameters"]}
        assert {name for name in parameters if name != "id"} == set(re.findall(r"`(\w+)`", row.rpartition("|")[0])) - {
            "ETag"
        }
        for name, least, most in re.findall(r"`(\w+)` \((\d+) to (\d+)\)", row):
            assert (parameters[name]["minimum"], parameters[name]["maximum"]) == (int(least), int(most))
            checked += 1
    assert checked == 6


def commands() -> Iterator[list[str]]:
    """Yield the words of each curl command, and of each assignment."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = re.sub(r"^#.*\n", "", block, flags=re.MULTILINE)
    for statement in re.split(r"\n(?=curl|\w+=|$)", lines):
        if statement.strip() and not statement.startswith(("token=", "id=", "api=")):
            yield shlex.split(statement)


async def test_the_examples_work(api: World) -> None:
    """Each is sent as curl would: first words, then an alert is opened, taken care of, noted and ended."""
    values = {"api": PREFIX, "token": api.tokens["ada"], "id": ""}
    statuses = []
    for program, *words in commands():
        assert program == "curl"
        filled = [Template(word).substitute(values) for word in words]
        headers, body, method, url = {}, None, "", ""
        rest = iter(filled)
        for word in rest:
            if word == "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = next(rest).encode()
                headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            elif word == "-X":
                method = next(rest)
            else:
                url = word
        used = method or ("POST" if body else "GET")
        async with await api.send(used, url, as_="none", headers=headers, data=body) as response:
            statuses.append((used, response.status))
            said = await response.json()
        if used == "POST" and url.endswith("/alerts"):
            values["id"] = said["id"]
    assert statuses == [
        *[("GET", 200)] * 3,
        *[("POST", 200), ("PUT", 200), ("POST", 201), ("PUT", 200)],
        *[("GET", 200)] * 2,
        ("POST", 201),
    ]


def test_the_sizes_are_those_that_count() -> None:
    """In the words of the page."""
    kibibytes = [BODY_BYTES // 1024, ERROR_BYTES // 1024, WEBHOOK_BYTES // 1024**2]
    words = "a body has at most {} KiB (an error {} KiB, a delivery {} MiB)".format(*kibibytes)
    text = " ".join(PAGE.split())
    assert (words in text, f"at most {MAX_DEPTH} deep" in text) == (True, True)
