"""The calls of the OpenAPI document as an `.http` file, which editors with an HTTP client and httpyac send."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

_HEAD: Final = """\
# The calls of {title} {version}. `exports schema http` prints this file.
# Set these variables; an export has its own id and its batch's id.
@url = {url}
@key = exp_test_...
"""

#: The variable for a parameter of a path by what stands before it, and the variable's first value.
_VARIABLES: Final = {
    "exports": ("batch", "batch_2026_1124_01"),
    "plans": ("plan", "pln_..."),
    "partners": ("partner", "wh_demo"),
    "customs-packages": ("package", "cpk_..."),
    "artifacts": ("artifact", "art_..."),
    "broker-submissions": ("submission", "sub_..."),
    "deliveries": ("delivery", "dlv_..."),
    "notifications": ("message", "..."),
    "waivers": ("waiver", "wvr_..."),
    "orders": ("order", "ord_..."),
    "tariff": ("number", "6115.94.00.00"),
    "portal-links": ("link", "lnk_..."),
    "schemas": ("schema", "plan"),
}
#: The members of bodies that are variables, too.
_MEMBERS: Final = {"accountId": ("account", "acc_demo"), "batchId": _VARIABLES["exports"]}


def build_http_file(document: Json, plan: Json) -> str:
    """Return a request for each call that an API key may make, or that needs none, with `plan` or the published example.

    The calls that only a partner signs are left out: a file cannot sign.
    """
    info = document["info"]
    lines = [_HEAD.format(title=info["title"], version=info["version"], url=document["servers"][0]["url"])]
    lines += [f"@{name} = {value}\n" for name, value in dict([*_MEMBERS.values(), *_VARIABLES.values()]).items()]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not operation["security"] or any("apiKey" in each for each in operation["security"]):
                lines += _build_request(method.upper(), path, operation, plan)
    return "".join(lines)


def _build_request(method: str, path: str, operation: Json, plan: Json) -> Iterator[str]:
    yield f"\n### {operation['summary']}\n# @name {operation['operationId']}\n"
    query = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    if query:
        yield f"# Parameters after `?`: {', '.join(query)}\n"
    yield f"{method} {{{{url}}}}{_PARAMETER.sub(_name_variable, path)}\n"
    if operation["security"]:
        yield "Authorization: Bearer {{key}}\n"
    if any(each["name"] == "Prefer" for each in operation.get("parameters", ())):
        yield "Prefer: wait=20\n"
    bodies = operation.get("requestBody", {}).get("content", {})
    if "application/octet-stream" in bodies:
        yield "Content-Type: text/csv\n\n< ./file.csv\n"
        return
    for content in bodies.values():
        ((name, example),) = content["examples"].items()
        # A published example with a plan is of one day, and cannot be executed later.
        command = {"accountId": "", "batchId": "", "plan": plan}
        body = {"plan": plan, "execute-request": command}.get(name, example["value"])
        yield f"Content-Type: application/json\n\n{json.dumps(_set_variables(body), indent=2, ensure_ascii=False)}\n"


#: A parameter of a path, and the word before it.
_PARAMETER: Final = re.compile(r"(?P<before>[a-z-]+)/\{[a-z_]+\}")


def _name_variable(found: re.Match[str]) -> str:
    name, _ = _VARIABLES[found["before"]]
    return f"{found['before']}/{{{{{name}}}}}"


def _set_variables(value: Any) -> Any:
    """Return an example whose account and batch are the file's variables."""
    if isinstance(value, list):
        return [_set_variables(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: f"{{{{{_MEMBERS[name][0]}}}}}" if name in _MEMBERS else _set_variables(each)
        for name, each in value.items()
    }
