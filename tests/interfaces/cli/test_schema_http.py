"""`exports schema http`: each call once with its variables, sent as it is by httpyac to the real service."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.interfaces.api.openapi_document import build_document
from pipeline.interfaces.app import ROUTERS
from tests.conftest import skip_or_fail
from tests.support.command_line import ROOT, Commands

HTTPYAC: Final = ROOT / "tests/interfaces/api/javascript/node_modules/httpyac/bin/httpyac.js"


def split_requests(text: str) -> tuple[str, dict[str, str]]:
    """Return the head of an `.http` file, and its requests by their names."""
    head, *parts = text.split("\n### ")
    requests = {re.findall(r"^# @name (\w+)$", part, re.MULTILINE)[0]: f"\n### {part}" for part in parts}
    assert len(requests) == len(parts)
    return head, requests


@pytest.mark.system
def test_each_call_that_a_key_may_make_is_a_request(commands: Commands) -> None:
    head, requests = split_requests(commands("schema", "http").stdout)
    operations = [
        operation
        for each in build_document(ROUTERS, "https://exports.example")["paths"].values()
        for operation in each.values()
    ]
    signed = {"takeSandboxHandoff", "listSandboxAnswers", "takeSandboxWebhook"}

    assert requests.keys() == {each["operationId"] for each in operations} - signed
    for operation in operations:
        if operation["operationId"] in requests:
            request = requests[operation["operationId"]]
            assert ("Authorization: Bearer {{key}}" in request) == bool(operation["security"])
            assert bool(re.search(r"\n\n[{<]", request)) == ("requestBody" in operation)
            assert "{id}" not in request
    defined = set(re.findall(r"^@(\w+) = ", head, re.MULTILINE))
    used = set(re.findall(r"\{\{(\w+)\}\}", "".join(requests.values())))
    assert defined == used


def send(text: str, folder: Path) -> dict[str, Any]:
    """Return the response to each request of an `.http` file by its name."""
    node = shutil.which("node")
    if node is None:
        skip_or_fail("Node.js is not installed; the Debian package is nodejs")
    if not HTTPYAC.is_file():
        skip_or_fail("httpyac is not installed; run `make kits`")
    (folder / "exports.http").write_text(text)
    # httpyac ends before a pipe has all of its output.
    with (folder / "answers.json").open("w+") as printed:
        command = [node, str(HTTPYAC), "send", "exports.http", "--all", "--json"]
        subprocess.run(command, cwd=folder, stdout=printed, timeout=200, check=False)
        printed.seek(0)
        requests = json.load(printed)["requests"]
    return {each["name"]: each["response"] for each in requests}


@pytest.mark.system
def test_requests_execute_follow_fetch_amend_cancel_and_test_a_partner(service: Commands, tmp_path: Path) -> None:
    head, requests = split_requests(service("schema", "http").stdout)
    values = {
        "url": service.environment["EXPORTS_API_URL"],
        "key": service.environment["EXPORTS_API_KEY"],
        "batch": "batch_of_the_http_file",
    }
    for name, value in values.items():
        head, count = re.subn(rf"^@{name} = .*$", f"@{name} = {value}", head, flags=re.MULTILINE)
        assert count == 1
    expected = {
        "preflightPlan": 200,
        "registerPlan": 201,
        "executeExport": 200,  # it ended within the wait
        "readExport": 200,
        "readEvents": 200,
        "downloadBundle": 200,
        "amendExport": 200,  # the same plan: the newest revision
        "cancelExport": 409,  # executed exports cannot be cancelled
        "listExports": 200,
        "testPartner": 200,
        "readReadiness": 200,
        "readJsonSchema": 200,
    }

    answers = send(head + "\n" + "".join(requests[name] for name in expected), tmp_path)

    assert {name: answers[name]["statusCode"] for name in answers} == expected, answers
    executed = json.loads(answers["executeExport"]["body"])
    assert (executed["state"], executed["batch_id"]) == ("executed", values["batch"])
    assert json.loads(answers["amendExport"]["body"])["exportId"] == executed["exportId"]
    assert json.loads(answers["cancelExport"]["body"])["errorCode"] == "INVALID_STATE"
    assert json.loads(answers["testPartner"]["body"])["passed"] is True
    assert answers["downloadBundle"]["headers"]["content-type"] == "application/zip"
