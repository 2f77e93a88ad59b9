"""The document that describes the API is valid, complete, and made of what is done."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from auraconnect_exporter import __version__
from tests.store.support import Place
from tests.web.world import PREFIX, World, world


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[World]:
    async with world(Place("", tmp_path / "data"), tmp_path) as made:
        yield made


@pytest.fixture
async def document(api: World) -> Any:
    async with await api.send("GET", "/openapi.json", as_="none") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        return await response.json()


def references(value: Any) -> Iterator[str]:
    """Yield everything that is referred to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield method, path and description of each operation."""
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            yield method.upper(), path, described


async def test_it_is_served_to_everybody_at_both_places(api: World) -> None:
    """Without a token, at the root and where the reverse proxy forwards."""
    texts = []
    for path in ("/openapi.json", f"{PREFIX}/openapi.json"):
        async with await api.send("GET", path, as_="none") as response:
            assert response.status == 200
            texts.append(await response.text())
    assert texts[0] == texts[1]


def test_it_is_openapi(document: Any) -> None:
    """It names its version and ours, and each operation has a name of its own."""
    assert (document["openapi"], document["info"]["version"]) == ("3.1.0", __version__)
    names = [described["operationId"] for _, _, described in operations(document)]
    assert len(names) == len(set(names)) == 24


def test_every_reference_leads_somewhere(document: Any) -> None:
    """Nothing is referred to that is not there, and nothing is there that nobody refers to."""
    schemas = document["components"]["schemas"]
    wanted = set(references(document))
    assert wanted == {f"#/components/schemas/{name}" for name in schemas}


def test_every_schema_is_a_schema(document: Any) -> None:
    """JSON Schema's own schema (2020-12, which is OpenAPI 3.1's) has nothing against them."""
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}), name
    for _, path, described in operations(document):
        for parameter in described["parameters"]:
            assert jsonschema_rs.meta.is_valid(parameter["schema"]), (path, parameter)


def test_parameters_of_paths_are_described(document: Any) -> None:
    """What stands in braces is a parameter, and required."""
    for _, path, described in operations(document):
        own = {each["name"] for each in described["parameters"] if each["in"] == "path" and each["required"]}
        assert own == ({"id"} if "{id}" in path else set()), path


def test_answers_are_described(document: Any) -> None:
    """Each operation has one good answer or more, and every problem that may come, by the same shape."""
    for method, path, described in operations(document):
        statuses = set(described["responses"])
        assert statuses & {"200", "201", "204"}, path
        assert {"422", "429"} <= statuses, path
        signs_in = described["operationId"] == "signIn"
        assert ({"401", "403"} <= statuses) == (bool(described["security"]) or signs_in), path
        assert ({"400", "408", "413", "415"} <= statuses) == ("requestBody" in described), path
        assert ("404" in statuses) == ("{id}" in path), path
        assert method in {"GET", "PUT", "POST", "DELETE"}
        for status, answer in described["responses"].items():
            assert answer["description"], (path, status)
            problem = answer.get("content", {}).get("application/problem+json")
            if problem is not None:
                assert problem["schema"] == {"$ref": "#/components/schemas/ProblemDetails"}


def test_roles_are_told(document: Any) -> None:
    """Who may call is written at each call; only these five ask for no token."""
    roles = {path.removeprefix(PREFIX): each.get("description") for _, path, each in operations(document)}
    public = {each["operationId"] for _, _, each in operations(document) if not each.get("description")}
    assert roles["/errors/log"] == "Needs the role ingest or system_admin."
    assert roles["/alerts/webhook"] == "Needs the role alertmanager or system_admin."
    assert roles["/dashboard"] == "Needs the role system_admin."
    assert public == {"health", "pagerduty", "signIn", "signOut", "status"}


@pytest.mark.parametrize(
    ("path", "status"),
    [("", 200), ("/detailed", 200), ("/metrics", 200), ("/dashboard", 200), ("/errors?limit=0", 422), ("/alerts", 200)],
)
async def test_answers_are_as_described(api: World, document: Any, path: str, status: int) -> None:
    """What is answered is valid by the schema that the document names for it."""
    await api.post_alert()
    answer = await api.call("GET", path)
    described = document["paths"][PREFIX + path.partition("?")[0]]["get"]["responses"][str(status)]
    schema = described["content"][answer.media_type]["schema"]
    resolvable = json.loads(json.dumps({**schema, "components": document["components"]}))
    assert (answer.status, list(jsonschema_rs.iter_errors(resolvable, answer.said))) == (status, [])
