"""The samples of the API reference: Python runs on the real service, curl is a command of its call, TypeScript compiles."""

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.interfaces.api.openapi_document import build_document
from pipeline.interfaces.app import ROUTERS
from tests.support.command_line import Commands

pytestmark = pytest.mark.system

URL: Final = "https://exports.example"

#: The calls that the service refuses after an export was executed, or without such a delivery.
REFUSED: Final = {
    "cancelExport": "INVALID_STATE",
    "retryExport": "INVALID_STATE",
    "holdExport": "INVALID_STATE",
    "resendDelivery": "NOT_FOUND",
}


def iterate_samples(url: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each call that has samples, as `POST /api/exports/execute`, its operation's id, and its samples by language."""
    for path, operations in build_document(ROUTERS, url)["paths"].items():
        for method, operation in operations.items():
            if "x-codeSamples" in operation:
                samples = {each["lang"]: each["source"] for each in operation["x-codeSamples"]}
                yield f"{method.upper()} {path}", operation["operationId"], samples


def test_main_calls_have_a_sample_in_each_language() -> None:
    found = {name: samples.keys() for _, name, samples in iterate_samples(URL)}
    assert {"executeExport", "amendExport", "readEvents", "downloadArtifact", "cancelExport", "testPartner"} <= set(
        found
    )
    assert all(languages == {"Shell", "Python", "TypeScript"} for languages in found.values())


def test_curl_sends_the_call_that_it_is_a_sample_of() -> None:
    for call, name, samples in iterate_samples(URL):
        words = shlex.split(samples["Shell"].replace("\\\n", " "))
        method = words[words.index("--request") + 1] if "--request" in words else "GET"
        (address,) = (word for word in words if word.startswith(URL))
        pattern = re.sub(r"\\\{\w+\\\}", "[^/{}]+", re.escape(call))
        assert re.fullmatch(pattern, f"{method} {address.removeprefix(URL)}"), name
        assert words[0] == "curl"
        sends = {"executeExport", "amendExport", "preflightPlan", "holdExport", "withdrawExport"}
        assert ("--data-binary" in words) == (name in sends)


def test_python_runs_on_the_real_service(
    service: Commands,
    client_package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(client_package)
    client = importlib.import_module("exports_client")
    monkeypatch.setenv("EXPORTS_API_KEY", service.environment["EXPORTS_API_KEY"])
    monkeypatch.chdir(tmp_path)
    plan = json.loads(service("plans", "example", "cookware").stdout) | {"batchId": "batch_of_the_samples"}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    refused = {}
    for _, name, samples in iterate_samples(service.environment["EXPORTS_API_URL"]):
        # Other pages use the same key on the same service.
        source = samples["Python"].replace("order-run-481", "order-of-the-samples")
        source = source.replace("batch_2026_1124_01", plan["batchId"])
        try:
            exec(compile(source, name, "exec"), {})  # noqa: S102 - our own sample
        except client.ApiProblem as problem:
            refused[name] = problem.code

    assert refused == REFUSED
    printed = capsys.readouterr().out
    assert "EXPORT_EXECUTED" in printed
    assert "True\n" in printed  # the partner's test passed
    assert (tmp_path / "bundle.zip").read_bytes().startswith(b"PK")
    assert len(list(tmp_path.glob("*.pdf"))) > 1
