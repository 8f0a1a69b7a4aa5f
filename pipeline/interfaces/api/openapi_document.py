"""The OpenAPI document: FastAPI's description of the routes, and what FastAPI does not know about them."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from pipeline.core.problems import Problem
from pipeline.exports.events import EventType
from pipeline.interfaces.api.code_samples import build_samples
from pipeline.interfaces.api.dependencies import roles_of
from pipeline.interfaces.api.openapi import SECURITY_SCHEMES, SIGNATURE
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.interfaces.contracts.json_schemas import PUBLISHED
from pipeline.interfaces.contracts.webhooks import build_message_schemas, build_webhooks

Json = dict[str, Any]

_DESCRIPTION: Final = """\
Executes approved export plans: package records, customs treatment, importable invoices, the handoff to the customs
broker, and messages to brokers, warehouses, operators and upstream services. It files no entry.

Clients branch on `errorCode`; every error message says what to do. Decimals are strings.
"""

_TAGS: Final = {
    "exports": "Execute an approved plan, follow its export, and change, cancel or retry it.",
    "orders": "Sync products and orders, and plan a batch from them.",
    "packages": "The customs packages of an export, and their documents.",
    "partners": "The customs brokers, warehouses, operators and upstream services that an account sends to.",
    "deliveries": "Messages to partners: each attempt, and sending them again.",
    "broker submissions": "The customs brokers' answers to handoffs.",
    "rules": "What the customs rules decide.",
    "waivers": "Warnings that an account accepts.",
    "tariff": "Numbers of the tariff on a day.",
    "system": "The state of the service, who did what, and the published contracts.",
    "sandbox": "The built-in customs broker, for tests without a partner.",
    "webhooks": "The messages that the service posts to a partner's address.",
}

#: The parameters of paths by the collection that they stand in; FastAPI would need each text at every route.
_PATH_PARAMETERS: Final = {
    ("exports", "id"): "The export's id, or its batch's id for the newest revision",
    ("orders", "id"): "The order's id, or its externalId",
    ("plans", "id"): "The registered plan's id, `planId` of its receipt",
    ("customs-packages", "id"): "The customs package's id",
    ("artifacts", "id"): "The document's id",
    ("broker-submissions", "id"): "The broker submission's id, which the handoff names",
    ("partners", "id"): "The partner's id",
    ("portal-links", "link"): "The portal link's id",
    ("deliveries", "id"): "The delivery's id",
    ("notifications", "id"): "The CloudEvent's id",
    ("waivers", "id"): "The waiver's id",
    ("tariff", "number"): "A number of the tariff: 4, 6, 8 or 10 digits, with or without points",
    ("handoffs", "handoff_id"): "The handoff's id",
    ("webhooks", "account_id"): "The account's id",
    ("{account_id}", "partner_id"): "The partner's id",
    ("schemas", "name"): "The schema's name, such as `plan`",
}

#: The documents of this process by the ids of the routers that they describe; making one takes a third of a second.
_DOCUMENTS: Final[dict[tuple[str, tuple[int, ...]], Json]] = {}


def add_contract(app: FastAPI, routers: Sequence[APIRouter], public_url: str) -> None:
    """Add the complete document as /openapi.json; `x-roles` names the roles of keys that may make a call."""

    def document() -> Json:
        # Routers compare by their routes and have no hash; they live as long as the process.
        key = public_url, tuple(map(id, routers))
        if key not in _DOCUMENTS:
            _DOCUMENTS[key] = build_document(routers, public_url)
        return _DOCUMENTS[key]

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def build_document(routers: Sequence[APIRouter], public_url: str) -> Json:
    """Return the document of these routes, for an installation that clients reach at `public_url`."""
    document = get_openapi(
        title="Exports",
        version=version("exports"),
        description=_DESCRIPTION,
        routes=[route for router in routers for route in router.routes],
        servers=[{"url": public_url, "description": "This installation"}],
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        contact={"name": "The operator of this installation", "url": public_url},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    schemas = components.setdefault("schemas", {})
    # FastAPI's own error format; no route answers with it.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, schema in _build_body_schemas().items():
        schemas.setdefault(name, schema)
    schemas.update(build_message_schemas())
    for name, schema in schemas.items():
        # Generators name types by it, and two types cannot have one name.
        schema["title"] = name
    for route in _iterate_routes(routers):
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            _complete_operation(route, operation, schemas)
            if samples := build_samples(method.lower(), route.path_format, operation, public_url):
                operation["x-codeSamples"] = samples
    # Open: a later version adds types.
    for name in ("EventView", "FeedEventView"):
        schemas[name]["properties"]["type"]["x-extensible-enum"] = [*EventType]
    _require_discriminators(document, schemas)
    document["webhooks"] = build_webhooks([SIGNATURE])
    complete: Json = _drop_noise(document)
    return complete


#: The one inbound message that no call takes.
_ONLY_BY_QUEUE: Final = "sent-acknowledgement"


def _build_body_schemas() -> Json:
    # Our code reads the bodies, so FastAPI does not know them.
    models: list[type[BaseModel]] = [Problem]
    models += [each.model for name, each in PUBLISHED.items() if not each.outbound and name != _ONLY_BY_QUEUE]
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    bodies: Json = definitions["$defs"]
    return bodies


def _iterate_routes(routers: Sequence[APIRouter]) -> Iterator[APIRoute]:
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                yield route


#: Header -> the status that says that its condition failed, and what the header does.
_VERSION_HEADERS: Final = {
    "If-Match": ("412", "Only if the resource still has this version: the `ETag` of the answer that you read"),
    "If-None-Match": ("304", "The `ETag` that you have; the same version is answered with 304 and no body"),
}


def _complete_operation(route: APIRoute, operation: Json, schemas: Json) -> None:
    operation["operationId"] = to_camel(route.name)
    # The first sentence, up to its first aside.
    operation["summary"] = (
        operation["description"].split("\n")[0].split(";")[0].split(". ")[0].rstrip(".").replace("`", "")
    )
    if "HTTPValidationError" in str(operation["responses"].get("422", {})):
        del operation["responses"]["422"]
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            parts = route.path_format.split("/")
            place = next(at for at, part in enumerate(parts) if f"{{{parameter['name']}}}" in part)
            parameter["description"] = _PATH_PARAMETERS[parts[place - 1], parameter["name"]]
    _add_version_headers(operation)
    for answer in operation["responses"].values():
        if answer["description"] == "Successful Response":
            answer["description"] = _describe_answer(answer, schemas)
    _add_examples(operation)
    role_sets = [roles_of(each.call) for each in _iterate_dependencies(route.dependant)]
    roles = next((each for each in role_sets if each is not None), None)
    # Empty if the route reads a credential of its own or needs none.
    operation.setdefault("x-roles", list(roles or ()))


def _add_version_headers(operation: Json) -> None:
    """Describe the conditional headers: FastAPI does not know them, because our code compares them itself."""
    answers = operation["responses"]
    headers = {name: text for name, (status, text) in _VERSION_HEADERS.items() if status in answers}
    operation.setdefault("parameters", []).extend(
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in headers.items()
    )
    if "304" in answers:
        tag = {"schema": {"type": "string"}, "description": "The version, for `If-Match` and `If-None-Match`"}
        answers["200"]["headers"] = {"ETag": tag}


def _require_discriminators(value: Any, schemas: Json) -> None:
    """Require the member that tells the alternatives apart; pydantic leaves it optional because it has a default."""
    if isinstance(value, dict):
        if "mapping" in value and isinstance(value.get("propertyName"), str):
            for reference in value["mapping"].values():
                required = schemas[reference.rpartition("/")[2]].setdefault("required", [])
                if value["propertyName"] not in required:
                    required.append(value["propertyName"])
            return
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _require_discriminators(each, schemas)


def _describe_answer(answer: Json, schemas: Json) -> str:
    """Return what the schema of the answer says about itself."""
    reference = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    text: str = schemas.get(reference.rpartition("/")[2], {}).get("description", "The call succeeded")
    return text.split("\n", maxsplit=1)[0]


_SCHEMA_NAMES: Final = {published.model.__name__: name for name, published in PUBLISHED.items()}


def _add_examples(operation: Json) -> None:
    """Add the published example to each JSON body and answer."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        content = part.get("content", {}).get("application/json", {})
        name = _SCHEMA_NAMES.get(content.get("schema", {}).get("$ref", "").rpartition("/")[2])
        if name is not None:
            content["examples"] = {name: {"value": read_example(name)}}


def _iterate_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from _iterate_dependencies(each)


def _drop_noise(value: Any) -> Any:
    """Return the document without `default: null`, with which generators make optional members mandatory.

    It also drops the titles that only repeat the name of a member, and the null of parameters: an absent one has no value.
    """
    if isinstance(value, dict):
        if "in" in value and isinstance(value.get("schema"), dict):
            value = {**value, "schema": _without_null(value["schema"])}
        return {
            key: inner if key in {"example", "examples"} else _drop_noise(inner)
            for key, inner in value.items()
            if not (key == "default" and inner is None) and not (key == "title" and _is_generated(inner, value))
        }
    return [_drop_noise(each) for each in value] if isinstance(value, list) else value


def _without_null(schema: Json) -> Json:
    """Return the schema of a parameter without null; its own members win over those of the only type that is left."""
    kinds: list[Json] = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return kinds[0] | rest


def _is_generated(title: Any, schema: Json) -> bool:
    # Models have properties or values, and generators call their types as their titles say.
    return isinstance(title, str) and not {"properties", "enum", "version"} & schema.keys()
