"""Query parameters: a call rejects unknown ones, because an ignored filter would show too much."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from inspect import isclass
from itertools import islice
from typing import Final

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue

#: Links in e-mails, and the way back from an OpenID provider: other programs may add their own parameters.
_LINK_PREFIXES: Final = ("/answers/", "/documents/", "/calendar/", "/console/exports/", "/console/provider/callback")
#: A suggestion costs 0.1 ms, and a URL can hold thousands of names.
_MAX_ISSUES: Final = 10


async def check_query(request: Request) -> None:
    """Raise ValidationFailed if the URL has a parameter that the call does not know."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or request.url.path.startswith(_LINK_PREFIXES):
        return
    known = list(_iterate_parameters(route.dependant))
    unknown = (name for name in dict.fromkeys(request.query_params) if name not in known)
    issues = [
        Issue(path=f"/query/{name[:64]}", message=_remedy(name, known), code="unknown_parameter")
        for name in islice(unknown, _MAX_ISSUES)
    ]
    if issues:
        raise validation_failed(issues)


def _iterate_parameters(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isclass(model) and issubclass(model, BaseModel):
            yield from (info.alias or name for name, info in model.model_fields.items())
        else:
            yield field.alias
    for each in dependant.dependencies:
        yield from _iterate_parameters(each)


def _remedy(name: str, known: Sequence[str]) -> str:
    by_lower_name = {each.lower(): each for each in known}
    close_matches = get_close_matches(name[:64].lower(), by_lower_name, 1)
    if close_matches:
        return f"is not a parameter of this call; did you mean {by_lower_name[close_matches[0]]}?"
    accepted = f"it takes {', '.join(known)}" if known else "it takes no parameters"
    return f"is not a parameter of this call; {accepted}"
