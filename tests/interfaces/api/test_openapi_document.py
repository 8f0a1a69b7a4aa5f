"""The OpenAPI document: built once a process, complete for people and for generators, and clean by two linters."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.interfaces.api.openapi_document import build_document
from pipeline.interfaces.app import ROUTERS, create_app
from pipeline.interfaces.contracts.asyncapi import QUEUES_BY_TYPE
from pipeline.workflow.publisher import Publisher
from tests.conftest import skip_or_fail
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.contracts import published
from tests.support import factories

FOLDER: Final = Path(__file__).parent / "javascript"
URL: Final = "https://exports.example"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build_document(ROUTERS, URL)


def iterate_operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place in ("paths", "webhooks"):
        for path, operations in document[place].items():
            for method, operation in operations.items():
                yield f"{method.upper()} {path}", operation


def test_apps_with_the_same_routers_share_one_document(harness: ApiHarness) -> None:
    def build(*, docs: bool) -> dict[str, Any]:
        settings = harness.runtime.settings.model_copy(update={"docs": docs})
        return create_app(replace(harness.runtime, settings=settings), Publisher(1)).openapi()

    assert build(docs=True) is build(docs=True)
    assert build(docs=True) is not build(docs=False)


def test_operation_ids_are_readable_unique_and_as_published(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in iterate_operations(document)]

    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", each) for each in ids), ids
    assert published.list_operations(document) == published.read_operations(), "run `make contracts`"


def test_files_come_in_a_documented_media_type(harness: ApiHarness, document: dict[str, Any]) -> None:
    plan = factories.plan()
    export_id = harness.execute(plan)
    harness.run(export_id)
    client = harness.client()
    artifacts = client.get(f"/api/exports/{export_id}").json()["artifacts"]
    render, download, bundle = "/api/exports/proforma", "/api/artifacts/{id}", "/api/exports/{id}/bundle"
    answers = [
        *(("post", render, client.post(render, json=plan, params={"format": each})) for each in ("pdf", "html")),
        *(("get", download, client.get(download.format(id=each["id"]))) for each in artifacts),
        ("get", bundle, client.get(bundle.format(id=export_id))),
    ]
    received = set()
    for method, path, answer in answers:
        media_type = answer.headers["content-type"].partition(";")[0]
        documented = document["paths"][path][method]["responses"][str(answer.status_code)]["content"]
        assert any(fnmatchcase(media_type, each) for each in documented), (path, answer.status_code, media_type)
        received.add(media_type)
    assert {"application/pdf", "text/html", "text/csv", "application/json", "application/zip"} <= received


def test_moved_or_renamed_operation_breaks_its_users() -> None:
    before = {"executeExport": "POST /api/exports/execute", "readExport": "GET /api/exports/{id}"}

    assert published.find_operation_breaks(before, before | {"listExports": "GET /api/exports"}) == []
    assert published.find_operation_breaks(before, {"executeExport": "POST /api/execute"}) == [
        "executeExport was POST /api/exports/execute and is POST /api/execute",
        "readExport was GET /api/exports/{id} and is no longer there",
    ]


def test_every_operation_parameter_tag_and_answer_is_described(document: dict[str, Any]) -> None:
    tags = {each["name"] for each in document["tags"]}
    for call, operation in iterate_operations(document):
        assert re.match(r"[A-Z][a-z].* ", operation["summary"]), call
        assert (
            operation["description"].replace("`", "").startswith(operation["summary"])
            or call.split()[1] in document["webhooks"]
        )
        assert set(operation["tags"]) <= tags, call
        assert isinstance(operation["security"], list), call
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (call, parameter["name"])
        for status, answer in operation["responses"].items():
            assert answer["description"] != "Successful Response", (call, status)
    assert all(each["description"] for each in document["tags"])
    assert document["servers"] == [{"url": URL, "description": "This installation"}]


def test_every_security_scheme_is_used_and_signed_calls_need_all_three_headers(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    signature: dict[str, list[str]] = {name: [] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    by_call = {call: operation["security"] for call, operation in iterate_operations(document)}

    assert {name for each in by_call.values() for one in each for name in one} == set(schemes)
    assert by_call["POST /api/broker-submissions/{id}/acknowledgements"] == [{"apiKey": []}, signature]
    assert by_call["POST /api/broker-submissions/{id}/links"] == [{"apiKey": []}, signature]
    assert [call for call, each in by_call.items() if not each] == [
        "GET /readyz",
        "GET /api/schemas/{name}.json",
        "GET /asyncapi.json",
    ]


def test_webhooks_are_the_messages_of_the_asyncapi_document(document: dict[str, Any]) -> None:
    assert list(document["webhooks"]) == [str(kind) for kind in QUEUES_BY_TYPE]
    for kind, webhook in document["webhooks"].items():
        content = webhook["post"]["requestBody"]["content"]["application/cloudevents+json"]
        assert content["examples"][kind]["value"]["type"] == kind


def test_no_two_schemas_have_one_title(document: dict[str, Any]) -> None:
    # Generators name their types by the titles.
    titles = [each["title"] for each in document["components"]["schemas"].values() if "title" in each]
    assert len(titles) == len(set(titles)) > 100


def test_schemas_of_parameters_allow_only_what_the_service_reads(document: dict[str, Any]) -> None:
    parameters = {
        (path, each["name"]): each["schema"]
        for path, methods in document["paths"].items()
        for method in methods.values()
        for each in method.get("parameters", [])
    }
    assert len(parameters) > 60
    assert [name for name, schema in parameters.items() if '"null"' in json.dumps(schema)] == []
    sequence = parameters["/api/exports/{id}/events", "Last-Event-ID"]
    assert (sequence["type"], sequence["minimum"], sequence["maximum"]) == ("integer", 0, 2**31)
    accepted = {
        "number": ["7323", "7323.93", "7323930045", "6115.94.00.00"],
        "cursor": ["dlv_01m6szzha9tq0zeghjkmnpqrst", "ZXhwXzAxbTZzenpoYTl0cTB6ZWdoamttbnBxcnN0"],
    }
    refused = {"number": ["", "73", "73239", "7323.9", "x"], "cursor": ["", "ZXhw=", "a b", "exp_1/"]}
    assert {*accepted} <= {name for _, name in parameters}
    for (path, name), schema in parameters.items():
        if name in accepted:
            assert all(re.search(schema["pattern"], each) for each in accepted[name]), path
            assert not any(re.search(schema["pattern"], each) for each in refused[name]), path


def test_optional_members_have_no_default_of_null(document: dict[str, Any]) -> None:
    assert '"default": null' not in json.dumps(document)


def lint(document: dict[str, Any], folder: Path, program: str, *options: str) -> Any:
    """Return what a linter reports as JSON; the test is skipped if it is not installed, and fails in CI."""
    node = shutil.which("node")
    if node is None:
        skip_or_fail("Node.js is not installed; the Debian package is nodejs")
    script = FOLDER / "node_modules" / program
    if not script.is_file():
        skip_or_fail("the linters are not installed; run `make kits`")
    path = folder / "openapi.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        [node, str(script), "lint", str(path), *options],
        env={"PATH": os.environ["PATH"], "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


def lint_by_redocly(document: dict[str, Any], folder: Path) -> list[str]:
    report = lint(document, folder, "@redocly/cli/bin/cli.js", "--config", "redocly.yaml", "--format", "json")
    return [f"{each['ruleId']}: {each['location'][0].get('pointer')}" for each in report["problems"]]


def lint_by_spectral(document: dict[str, Any], folder: Path) -> list[str]:
    options = ("--ruleset", "spectral.yaml", "--format", "json", "--fail-severity", "hint", "--quiet")
    report = lint(document, folder, "@stoplight/spectral-cli/dist/index.js", *options)
    return [f"{each['code']}: {each['path']}" for each in report]


@pytest.mark.system
@pytest.mark.parametrize("lint_document", [lint_by_redocly, lint_by_spectral])
def test_linters_find_nothing_but_what_is_wrong(lint_document: Any, document: dict[str, Any], tmp_path: Path) -> None:
    assert lint_document(document, tmp_path) == []

    wrong = json.loads(json.dumps(document))
    wrong["paths"]["/api/exports"]["get"]["operationId"] = "executeExport"
    assert any("operation" in each for each in lint_document(wrong, tmp_path))


def test_linters_lock_matches_the_installation_and_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    installed = {name: each for name, each in packages.items() if name}
    assert {f"node_modules/{name}" for name in ("@redocly/cli", "@stoplight/spectral-cli", "orval")} <= set(installed)
    assert all(each["integrity"].startswith("sha512-") and "resolved" not in each for each in installed.values())
