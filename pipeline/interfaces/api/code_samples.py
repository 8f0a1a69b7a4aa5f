"""Samples of the main calls for the API reference (`x-codeSamples`): with curl, the Python client and the TypeScript client."""

import re
from textwrap import indent
from typing import Any, Final

Json = dict[str, Any]

_PYTHON: Final = """\
{imports}

from exports_client import Exports

with Exports("{url}", os.environ["EXPORTS_API_KEY"]) as api:
{statements}
"""

_TYPESCRIPT: Final = """\
{imports}import {{ Exports }} from "exports-client";

const api = new Exports({{ url: "{url}", key: process.env.EXPORTS_API_KEY ?? "" }});
{statements}
"""

#: The ids in the samples, by what stands before them in the path.
_IDS: Final = {
    "exports": "batch_2026_1124_01",
    "partners": "wh_demo",
    "artifacts": "art_01m893ebew3cn53m5vgenhb5h1",
    "deliveries": "dlv_01m893ebew3cn53m5vgenhb5h1",
}

#: The options of curl that only these calls need.
_CURL_OPTIONS: Final = {
    "executeExport": "--header 'Idempotency-Key: order-run-481'",
    "readEvents": "--no-buffer --header 'Accept: text/event-stream'",
    "downloadArtifact": "--remote-name --remote-header-name",
    "downloadBundle": "--remote-name --remote-header-name",
}

#: A body with a plan has hundreds of lines; the reader has it in a file.
_BODY_FILES: Final = {"Plan": "plan.json", "ExecuteRequest": "command.json", "ReasonRequest": "reason.json"}

#: The statements of the Python client by the operation's id.
_PYTHON_STATEMENTS: Final = {
    "executeExport": """\
plan = json.loads(Path("plan.json").read_text())
execution = api.execute(plan, idempotency_key="order-run-481", wait_seconds=20)
print(execution.export.export_id, execution.export.state)""",
    "amendExport": """\
plan = json.loads(Path("plan.json").read_text())
execution = api.amend("batch_2026_1124_01", plan)
print(execution.export.export_id, execution.export.revision)""",
    "preflightPlan": """\
plan = json.loads(Path("plan.json").read_text())
for finding in api.preflight(plan).findings:
    print(finding.severity, finding.pointer, finding.message)""",
    "listExports": """\
for export in api.exports(state="failed"):
    print(export.export_id, export.batch_id)""",
    "readExport": """\
export = api.inspect("batch_2026_1124_01")
print(export.state, export.status)""",
    "readEvents": """\
for event in api.follow("batch_2026_1124_01"):
    print(event.seq, event.type, event.data)""",
    "readFeed": """\
for event in api.account_events():
    print(event.id, event.batch_id, event.type)""",
    "holdExport": """\
export = api.hold("batch_2026_1124_01", "the buyer asks to wait")
print(export.outcome)""",
    "withdrawExport": """\
export = api.withdraw("batch_2026_1124_01", "the buyer cancelled the order")
print(export.outcome)""",
    "releaseExport": """\
export = api.release("batch_2026_1124_01")
print(export.outcome)""",
    "cancelExport": """\
export = api.cancel("batch_2026_1124_01")
print(export.state)""",
    "retryExport": """\
export = api.retry("batch_2026_1124_01")
print(export.state)""",
    "downloadArtifact": """\
for artifact in api.inspect("batch_2026_1124_01").artifacts:
    Path(artifact.filename).write_bytes(api.download(artifact))""",
    "downloadBundle": """\
Path("bundle.zip").write_bytes(api.bundle("batch_2026_1124_01"))""",
    "testPartner": """\
tested = api.test_partner("wh_demo")
print(tested.passed)""",
    "listDeliveries": """\
for delivery in api.deliveries(state="dead"):
    print(delivery.id, delivery.partner_id, delivery.error)""",
    "resendDelivery": """\
delivery = api.resend("dlv_01m893ebew3cn53m5vgenhb5h1")
print(delivery.state)""",
}

#: The statements of the TypeScript client by the operation's id.
_TYPESCRIPT_STATEMENTS: Final = {
    "executeExport": """\
const plan = JSON.parse(await readFile("plan.json", "utf-8"));
const accepted = await api.execute(plan, { idempotencyKey: "order-run-481", waitSeconds: 20 });
console.log(accepted.export.exportId, accepted.export.state);""",
    "amendExport": """\
const plan = JSON.parse(await readFile("plan.json", "utf-8"));
const { data } = await api.POST("/api/exports/{id}/amend", {
  params: { path: { id: "batch_2026_1124_01" } },
  body: { accountId: plan.accountId, batchId: plan.batchId, plan },
});
console.log(data.exportId, data.revision);""",
    "preflightPlan": """\
const plan = JSON.parse(await readFile("plan.json", "utf-8"));
const { data } = await api.POST("/api/exports/preflight", { body: plan });
for (const finding of data.findings) console.log(finding.severity, finding.pointer, finding.message);""",
    "listExports": """\
const { data } = await api.GET("/api/exports", { params: { query: { state: "failed" } } });
for (const item of data.items) console.log(item.exportId, item.batch_id);""",
    "readExport": """\
const { data } = await api.GET("/api/exports/{id}", { params: { path: { id: "batch_2026_1124_01" } } });
console.log(data.state, data.status);""",
    "readEvents": """\
for await (const event of api.events("batch_2026_1124_01")) {
  console.log(event.seq, event.type, event.data);
}""",
    "readFeed": """\
const { data } = await api.GET("/api/events", { params: { query: { limit: 500 } } });
for (const item of data.items) console.log(item.id, item.batchId, item.type);""",
    "holdExport": """\
const { data } = await api.POST("/api/exports/{id}/hold", {
  params: { path: { id: "batch_2026_1124_01" } },
  body: { reason: "the buyer asks to wait" },
});
console.log(data.outcome);""",
    "withdrawExport": """\
const { data } = await api.POST("/api/exports/{id}/withdraw", {
  params: { path: { id: "batch_2026_1124_01" } },
  body: { reason: "the buyer cancelled the order" },
});
console.log(data.outcome);""",
    "releaseExport": """\
const { data } = await api.POST("/api/exports/{id}/release", { params: { path: { id: "batch_2026_1124_01" } } });
console.log(data.outcome);""",
    "cancelExport": """\
const { data } = await api.POST("/api/exports/{id}/cancel", { params: { path: { id: "batch_2026_1124_01" } } });
console.log(data.state);""",
    "retryExport": """\
const { data } = await api.POST("/api/exports/{id}/retry", { params: { path: { id: "batch_2026_1124_01" } } });
console.log(data.state);""",
    "downloadArtifact": """\
const { data } = await api.GET("/api/exports/{id}", { params: { path: { id: "batch_2026_1124_01" } } });
for (const artifact of data.artifacts) await writeFile(artifact.filename, await api.download(artifact));""",
    "downloadBundle": """\
const { data } = await api.GET("/api/exports/{id}/bundle", {
  params: { path: { id: "batch_2026_1124_01" } },
  parseAs: "arrayBuffer",
});
await writeFile("bundle.zip", new Uint8Array(data));""",
    "testPartner": """\
const { data } = await api.POST("/api/partners/{id}/test", { params: { path: { id: "wh_demo" } } });
console.log(data.passed);""",
    "listDeliveries": """\
const { data } = await api.GET("/api/deliveries", { params: { query: { state: "dead" } } });
for (const item of data.items) console.log(item.id, item.partnerId, item.error);""",
    "resendDelivery": """\
const { data } = await api.POST("/api/deliveries/{id}/resend", {
  params: { path: { id: "dlv_01m893ebew3cn53m5vgenhb5h1" } },
});
console.log(data.state);""",
}


def build_samples(method: str, path: str, operation: Json, url: str) -> list[Json]:
    """Return the samples of a call of the installation at `url`; empty if it is not one of the main calls."""
    name = operation["operationId"]
    if name not in _PYTHON_STATEMENTS:
        return []
    return [
        {"lang": "Shell", "label": "curl", "source": _build_curl(method, path, operation, url)},
        {"lang": "Python", "label": "Python client", "source": _build_python(_PYTHON_STATEMENTS[name], url)},
        {
            "lang": "TypeScript",
            "label": "TypeScript client",
            "source": _build_typescript(_TYPESCRIPT_STATEMENTS[name], url),
        },
    ]


def _build_curl(method: str, path: str, operation: Json, url: str) -> str:
    address = re.sub(r"([a-z-]+)/\{id\}", lambda found: f"{found[1]}/{_IDS[found[1]]}", path)
    request = "" if method == "get" else f" --request {method.upper()}"
    lines = [f"curl --fail-with-body{request} '{url}{address}'", '--header "Authorization: Bearer $EXPORTS_API_KEY"']
    if operation["operationId"] in _CURL_OPTIONS:
        lines.append(_CURL_OPTIONS[operation["operationId"]])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        file = _BODY_FILES[content["schema"]["$ref"].rpartition("/")[2]]
        lines.append(f"--header 'Content-Type: application/json' --data-binary @{file}")
    return " \\\n  ".join(lines)


def _build_python(statements: str, url: str) -> str:
    imports = ["import json"] * ("json." in statements) + ["import os"]
    imports += ["from pathlib import Path"] * ("Path(" in statements)
    return _PYTHON.format(imports="\n".join(imports), url=url, statements=indent(statements, "    "))


def _build_typescript(statements: str, url: str) -> str:
    used = [name for name in ("readFile", "writeFile") if name in statements]
    imports = f'import {{ {", ".join(used)} }} from "node:fs/promises";\n' if used else ""
    return _TYPESCRIPT.format(imports=imports, url=url, statements=statements)
