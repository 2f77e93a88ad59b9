"""The OpenAPI document (3.1), made from the operations and the types that check their bodies. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from auraconnect_exporter.auth import Role
from auraconnect_exporter.web.operations import Operation
from auraconnect_exporter.web.problems import ProblemDetails

_TEMPLATE: Final = "#/components/schemas/{name}"
_PROBLEM: Final = "ProblemDetails"
_WHY: Final = {
    400: "the body does not come as a whole",
    401: "no valid credential",
    403: "too little role",
    404: "no such alert",
    408: "the body does not come",
    409: "it still fires",
    413: "the body is too large",
    415: "the body is compressed",
    422: "a parameter or the body can't be used",
    429: "too many calls, failed sign-ins or open alerts",
    503: "what is needed can't be reached at the moment",
}


def document(operations: Sequence[Operation], prefix: str, version: str) -> dict[str, Any]:
    """Return the document."""
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = paths.setdefault(f"{prefix}{operation.path}", {})
        path[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AuraConnect health API",
            "version": version,
            "description": "What is broken, since when, and who takes care. A slash at the end of a path is optional.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: Iterable[Operation]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """Return the schema of each type by the type, and what they refer to."""
    types: list[Any] = [ProblemDetails]
    for operation in operations:
        types += [operation.answer, operation.body, *(operation.also or {}).values()]
    wanted = [kind for index, kind in enumerate(types) if kind not in {None, bytes} and kind not in types[:index]]
    found, components = msgspec.json.schema_components(wanted, ref_template=_TEMPLATE)
    return dict(zip(wanted, found, strict=True)), components


def _operation(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": _responses(operation, schemas),
        "security": [] if operation.role is None else [{"token": []}],
    }
    if operation.role is not None:
        roles = {operation.role, Role.SYSTEM_ADMIN}
        described["description"] = f"Needs the role {' or '.join(sorted(roles))}."
    if operation.body is not None:
        # What is handed over unread may be anything: what can't be used is put aside, not refused.
        schema = {} if operation.body is bytes else schemas[operation.body]
        content = {"application/json": {"schema": schema}}
        described["requestBody"] = {"required": operation.body is not bytes, "content": content}
    return described


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", operation.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    """Return the fields of the query's type, each with what it may be."""
    if operation.query is None:
        return []
    (schema,), components = msgspec.json.schema_components([operation.query], ref_template="{name}")
    properties = components[schema["$ref"]]["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(each, components)}
        for name, each in properties.items()
    ]


def _without_null(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema: null can't be said in a query, and what is referred to is written out."""
    if "$ref" in schema:
        return _without_null(components[schema["$ref"]], components)
    if "anyOf" in schema:
        (other,) = (each for each in schema["anyOf"] if each.get("type") != "null")
        return _without_null(other, components)
    return {key: value for key, value in schema.items() if key not in {"title", "description"} and value is not None}


def _responses(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    own = {operation.status: operation.answer, **(operation.also or {})}
    responses = {str(status): _response(status, schemas.get(kind)) for status, kind in own.items()}
    statuses = set(operation.problems) | {422, 429}
    if operation.role is not None:
        statuses |= {401, 403}
    if operation.body is not None:
        statuses |= {400, 408, 413, 415}
    for status in sorted(statuses - set(own)):
        content = {"application/problem+json": {"schema": {"$ref": _TEMPLATE.format(name=_PROBLEM)}}}
        responses[str(status)] = {"description": _WHY[status], "content": content}
    return responses


def _response(status: int, schema: dict[str, Any] | None) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if schema is not None:
        described["content"] = {"application/json": {"schema": schema}}
    return described
