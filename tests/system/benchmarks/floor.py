"""The API with one more route that only parses, validates and answers: the floor for acceptance."""

from fastapi import FastAPI, Request
from starlette.responses import Response

from pipeline.core.json_input import parse_json
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.interfaces import app as interfaces_app

PATH = "/floor"
_ANSWER = b'{"exportId":"exp_0","state":"accepted"}'


def app() -> FastAPI:
    """Return the Procfile's app with the floor route: `uvicorn --factory tests.system.benchmarks.floor:app`."""
    api = interfaces_app.app()

    async def floor(request: Request) -> Response:
        parse_json(await request.body(), ExecuteRequest, max_depth=32)
        return Response(_ANSWER, 202, media_type="application/json")

    api.add_api_route(PATH, floor, methods=["POST"])
    return api
