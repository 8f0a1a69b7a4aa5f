"""Clients that others generate from the OpenAPI document execute, follow and fetch on the real service.

`clients/typescript` is such a client by openapi-typescript, and has its own tests.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.interfaces.api.openapi_document import build_document
from pipeline.interfaces.app import ROUTERS
from tests.conftest import skip_or_fail
from tests.support.command_line import ROOT, Commands, run_program

PYTHON: Final = ROOT / ".generators" / "bin"
NODE_MODULES: Final = ROOT / "tests" / "interfaces" / "api" / "javascript" / "node_modules"

#: On a machine with much work, the generators and the compiler take minutes.
pytestmark = [pytest.mark.timeout(600), pytest.mark.system]

#: openapi-python-client reads no other media types than these by itself.
PYTHON_OPTIONS: Final = """\
project_name_override: generated-client
package_name_override: generated_client
content_type_overrides:
  application/zip: application/octet-stream
  application/cloudevents+json: application/json
"""

PYTHON_PROGRAM: Final = """\
import json, os, time
from pathlib import Path

from generated_client import AuthenticatedClient
from generated_client.api.exports import cancel_export, execute_export, read_events, read_export
from generated_client.api.packages import download_artifact, download_bundle
from generated_client.models import ExecuteRequest, ExportState, Problem

command = json.loads(Path("command.json").read_text())
with AuthenticatedClient(os.environ["EXPORTS_API_URL"], token=os.environ["EXPORTS_API_KEY"], timeout=120) as client:
    body = ExecuteRequest.from_dict(command)
    accepted = execute_export.sync(client=client, body=body, idempotency_key="generated-python")
    deadline = time.monotonic() + 120
    while (found := read_export.sync(accepted.export_id, client=client)).state is not ExportState.EXECUTED:
        assert time.monotonic() < deadline, found.status
        time.sleep(0.1)
    events = read_events.sync(found.export_id, client=client, limit=1000).items
    pdf = next(each for each in found.artifacts if each.filename.endswith(".pdf"))
    document = download_artifact.sync(pdf.id, client=client).payload.read()
    bundle = download_bundle.sync(found.export_id, client=client).payload.read()
    refused = cancel_export.sync(found.export_id, client=client)
assert isinstance(refused, Problem), refused
print(json.dumps({
    "batch": found.batch_id,
    "types": [each.type_ for each in events],
    "document": document[:4].decode(),
    "bundle": bundle[:2].decode(),
    "refused": refused.error_code,
}))
"""

TYPESCRIPT_PROGRAM: Final = """\
import { readFileSync } from "node:fs";
import {
  cancelExport,
  downloadArtifact,
  type ExecuteRequest,
  executeExport,
  type ExportView,
  getDownloadBundleUrl,
  readEvents,
  readExport,
} from "./api.js";

const headers = { Authorization: `Bearer ${process.env.EXPORTS_API_KEY}` };
const command: ExecuteRequest = JSON.parse(readFileSync("command.json", "utf-8"));

const accepted = await executeExport(command, { headers: { ...headers, "Idempotency-Key": "generated-orval" } });
if (accepted.status !== 202) throw new Error(JSON.stringify(accepted.data));
const found = await follow(accepted.data.exportId);
const events = await readEvents(found.exportId, { limit: 1000 }, { headers });
// The same address answers with a stream of text.
if (events.status !== 200 || typeof events.data === "string") throw new Error(JSON.stringify(events.data));
const json = found.artifacts.find(({ filename }) => filename.endsWith(".json"));
const document: unknown = (await downloadArtifact(json?.id ?? "", { headers })).data;
// The generated function reads every answer as JSON.
const bundle = await (await fetch(getDownloadBundleUrl(found.exportId), { headers })).arrayBuffer();
const refused = await cancelExport(found.exportId, { headers });
if (refused.status !== 409) throw new Error(JSON.stringify(refused.data));
console.log(
  JSON.stringify({
    batch: found.batch_id,
    types: events.data.items.map(({ type }) => type),
    document: typeof document,
    bundle: new TextDecoder().decode(bundle.slice(0, 2)),
    refused: refused.data.errorCode,
  }),
);

async function follow(id: string): Promise<ExportView> {
  for (const deadline = Date.now() + 120_000; Date.now() < deadline; ) {
    const answer = await readExport(id, { headers });
    if (answer.status === 200 && answer.data.state === "executed") return answer.data;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${id} has not ended`);
}
"""

#: As a reader's project is.
TYPESCRIPT_OPTIONS: Final = {
    "module": "NodeNext",
    "target": "ES2022",
    "lib": ["ES2023", "DOM", "DOM.Iterable"],
    "types": ["node"],
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "skipLibCheck": True,
}


def run(arguments: list[str | Path], folder: Path, **environment: str) -> str:
    """Run a program that finds the Python of the generators first, and return what it printed."""
    return run_program(arguments, folder, PATH=f"{PYTHON}:{os.environ['PATH']}", **environment)


def write_inputs(service: Commands, folder: Path, batch: str) -> None:
    """Write the OpenAPI document of the running service, and a command to execute."""
    document = build_document(ROUTERS, service.environment["EXPORTS_API_URL"])
    (folder / "openapi.json").write_text(json.dumps(document))
    plan = json.loads(service("plans", "example", "cookware").stdout) | {"batchId": batch}
    command = {"accountId": plan["accountId"], "batchId": batch, "plan": plan}
    (folder / "command.json").write_text(json.dumps(command))


def check_report(report: dict[str, Any], batch: str) -> None:
    assert report["batch"] == batch
    assert report["types"][0] == "EXPORT_ACCEPTED"
    assert "EXPORT_EXECUTED" in report["types"]
    assert (report["bundle"], report["refused"]) == ("PK", "INVALID_STATE")


def test_client_of_openapi_python_client(service: Commands, tmp_path: Path) -> None:
    generator = PYTHON / "openapi-python-client"
    if not generator.is_file():
        skip_or_fail("openapi-python-client is not installed; run `make kits`")
    write_inputs(service, tmp_path, "batch_of_generated_python")
    (tmp_path / "options.yaml").write_text(PYTHON_OPTIONS)
    (tmp_path / "program.py").write_text(PYTHON_PROGRAM)
    arguments = ["generate", "--path", "openapi.json", "--config", "options.yaml", "--output-path", "generated"]

    said = run([generator, *arguments, "--fail-on-warning"], tmp_path)
    assert "WARNING" not in said
    printed = run([PYTHON / "python", "program.py"], tmp_path, PYTHONPATH="generated", **service.environment)

    report = json.loads(printed)
    check_report(report, "batch_of_generated_python")
    assert report["document"] == "%PDF"


def test_client_of_orval(service: Commands, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        skip_or_fail("Node.js is not installed; the Debian package is nodejs")
    types = ROOT / "clients" / "typescript" / "node_modules" / "@types"
    if not (NODE_MODULES / "orval").is_dir() or not types.is_dir():
        skip_or_fail("orval and the types of Node.js are not installed; run `make kits`")
    write_inputs(service, tmp_path, "batch_of_generated_typescript")
    output = {"target": "api.ts", "client": "fetch", "baseUrl": service.environment["EXPORTS_API_URL"]}
    options = {"api": {"input": {"target": "openapi.json"}, "output": output}}
    (tmp_path / "orval.config.cjs").write_text(f"module.exports = {json.dumps(options)};")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "program.ts").write_text(TYPESCRIPT_PROGRAM)
    compiler = TYPESCRIPT_OPTIONS | {"typeRoots": [str(types)]}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": compiler}))

    run([node, NODE_MODULES / "orval/dist/bin/orval.js", "--config", "./orval.config.cjs"], tmp_path)
    run([node, NODE_MODULES / "typescript/bin/tsc", "--project", "."], tmp_path)
    printed = run([node, "program.js"], tmp_path, **service.environment)

    report = json.loads(printed)
    check_report(report, "batch_of_generated_typescript")
    assert report["document"] == "object"
