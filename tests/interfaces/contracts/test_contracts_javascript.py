"""Every published schema in JavaScript: Ajv compiles it, and each pattern is valid with the `u` flag."""

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest

from config.settings import Settings
from pipeline.core.runtime import open_runtime
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType
from pipeline.interfaces.app import create_app
from pipeline.interfaces.contracts import asyncapi
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema
from pipeline.workflow.publisher import Publisher
from tests.conftest import skip_or_fail

pytestmark = pytest.mark.system

FOLDER: Final = Path(__file__).parent / "javascript"


def write_published(folder: Path) -> dict[str, Any]:
    """Return everything published: schemas, examples and documents."""
    shown = {name: read_example(name) for name in PUBLISHED}
    settings = Settings.model_validate({"database_url": f"sqlite:///{folder / 'exports.db'}"})
    runtime = open_runtime(settings)
    try:
        openapi = create_app(runtime, Publisher(1)).openapi()
    finally:
        runtime.close()
    return {
        "schemas": {name: build_json_schema(name) for name in PUBLISHED},
        "examples": {
            name: each["data"] if name in {*MessageType, CONNECTION_TEST} else each for name, each in shown.items()
        },
        "documents": {"openapi": openapi, "asyncapi": asyncapi.build_document(version("exports"))},
    }


def compile_schemas(given: dict[str, Any]) -> dict[str, Any]:
    """Return what Node.js found; the test is skipped if Node.js or Ajv is not installed, and fails in CI."""
    node = shutil.which("node")
    if node is None:
        skip_or_fail("Node.js is not installed; the Debian package is nodejs")
    if not (FOLDER / "node_modules" / "ajv").is_dir():
        skip_or_fail("Ajv is not installed; run `make kits`")
    done = subprocess.run(
        [node, str(FOLDER / "compile.mjs")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_published_schema_and_pattern_compiles_in_javascript(tmp_path: Path) -> None:
    given = write_published(tmp_path)

    found = compile_schemas(given)

    assert found["faults"] == []
    components = sum(len(each["components"]["schemas"]) for each in given["documents"].values())
    assert found["compiled"] > len(PUBLISHED) + components
    assert found["patterns"] > 30


@pytest.mark.parametrize("pattern", [r"^[^\"]+$", r"^\-$", r"^[\d-x]+$", "^(a$"])
def test_pattern_that_javascript_rejects_is_named(pattern: str) -> None:
    schema = {"type": "object", "properties": {"mail": {"type": "string", "pattern": pattern}}}
    document = {"components": {"schemas": {"Mail": schema}}}

    found = compile_schemas({"schemas": {"mail": schema}, "examples": {"mail": {}}, "documents": {"openapi": document}})

    assert [fault.split(": ")[0] for fault in found["faults"]] == [
        "mail",
        "mail/properties/mail/pattern",
        "openapi/components/schemas/Mail",
        "openapi/components/schemas/Mail/properties/mail/pattern",
    ]


def test_example_that_its_schema_rejects_is_named() -> None:
    found = compile_schemas({"schemas": {"mail": {"type": "string"}}, "examples": {"mail": 1}, "documents": {}})

    assert [fault.split(": ")[:2] for fault in found["faults"]] == [["mail", "its example is refused"]]


def test_ajv_lock_matches_the_installation_and_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    installed = {name: each for name, each in packages.items() if name}
    assert "node_modules/ajv" in installed
    assert all(each["integrity"].startswith("sha512-") and "resolved" not in each for each in installed.values())
