"""The API reference as a page, built from the OpenAPI document; it loads nothing from other hosts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from pipeline.interfaces.console.pages import public_page

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class DocumentedParameter:
    """One parameter of a call."""

    name: str
    location: str
    required: bool
    text: str


@dataclass(frozen=True)
class DocumentedAnswer:
    """One status that a call may answer."""

    status: str
    text: str
    schema: str


@dataclass(frozen=True)
class DocumentedCall:
    """One call of the API."""

    method: str
    path: str
    anchor: str
    text: str
    needs_key: bool
    body: str
    parameters: list[DocumentedParameter]
    answers: list[DocumentedAnswer]


@dataclass(frozen=True)
class Chapter:
    """The calls of one tag."""

    name: str
    calls: list[DocumentedCall]


@router.get("/docs")
def read_reference(request: Request) -> Response:
    """Show every call with its parameters, body and answers."""
    app: FastAPI = request.app
    document = app.openapi()
    response = public_page(
        "console/reference.html",
        title=document["info"]["title"],
        version=document["info"]["version"],
        about=_strip_markdown(document["info"]["description"]).split("\n\n"),
        chapters=_build_chapters(document),
    )
    response.headers["Cache-Control"] = "no-cache"
    return response


def _build_chapters(document: Mapping[str, Any]) -> list[Chapter]:
    chapters: defaultdict[str, list[DocumentedCall]] = defaultdict(list)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            chapters[operation.get("tags", ["system"])[0]].append(_document_call(method, path, operation))
    return [Chapter(name, calls) for name, calls in chapters.items()]


def _document_call(method: str, path: str, operation: Mapping[str, Any]) -> DocumentedCall:
    body = operation.get("requestBody", {})
    return DocumentedCall(
        method=method.upper(),
        path=path,
        anchor=operation["operationId"],
        text=_strip_markdown(operation.get("description", operation.get("summary", ""))),
        needs_key=bool(operation["security"]),
        body=next(_iterate_schemas(body), ""),
        parameters=[
            DocumentedParameter(
                name=each["name"],
                location=each["in"],
                required=each.get("required", False),
                text=_strip_markdown(each.get("description", each["schema"].get("description", ""))),
            )
            for each in operation.get("parameters", ())
        ],
        answers=[
            DocumentedAnswer(status, _strip_markdown(answer.get("description", "")), next(_iterate_schemas(answer), ""))
            for status, answer in sorted(operation["responses"].items())
        ],
    )


def _strip_markdown(text: str) -> str:
    # The document is Markdown, but only uses its marks for code.
    return text.strip().replace("`", "")


def _iterate_schemas(part: Mapping[str, Any]) -> Iterator[str]:
    for media in part.get("content", {}).values():
        read_reference = media.get("schema", {}).get("$ref", "")
        if read_reference:
            yield read_reference.rsplit("/", 1)[1]
