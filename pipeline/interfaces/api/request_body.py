"""Request bodies: read after the caller is known, and validated off the event loop if large."""

from typing import Any, Final, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from pipeline.core.errors import InvalidRequest
from pipeline.core.json_input import Parsed, parse_json
from pipeline.interfaces.api.dependencies import CallerDep, RuntimeDep

M = TypeVar("M", bound=BaseModel)

#: Validating a body of this size takes less time than handing it to a thread.
_INLINE_BYTES: Final = 16 * 1024


def json_body(model: type[M]) -> Any:  # FastAPI declares that Depends returns Any
    """Return the dependency that gives the body as `Parsed[model]`; it checks the caller before it reads a byte."""

    async def read(request: Request, runtime: RuntimeDep, _: CallerDep) -> Parsed[M]:
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise InvalidRequest("the body must be JSON; send it with `Content-Type: application/json`")
        raw = await request.body()
        max_depth = runtime.settings.max_json_depth
        if len(raw) <= _INLINE_BYTES:
            return parse_json(raw, model, max_depth=max_depth)
        return await run_in_threadpool(parse_json, raw, model, max_depth=max_depth)

    return Depends(read)


async def read_body_up_to(request: Request, max_bytes: int) -> bytes | None:
    """Return the body of a call that needs no key; None if it is longer than `max_bytes` bytes."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            return None
    return bytes(body)


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that `json_body` reads."""
    content = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}
