"""The published schemas, one file for each version, and the operations of the API, on which others have built.

`make contracts` publishes additions. It rejects breaking changes: publish a new version of the message, or a new name,
beside the old one.
"""

import json
import sys
from pathlib import Path
from typing import Final

from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema
from tests.interfaces.contracts.compatibility import Json, find_breaks

FOLDER: Final = Path(__file__).parent / "schemas"
OPERATIONS: Final = Path(__file__).parent / "operations.json"

REMEDY: Final = """\
Readers and senders use the published schema. Keep its promises and add to it: an optional member, or a new version
(exports.thing.happened.v2) beside the old one. To publish an unused schema again, delete its file first."""


def names() -> list[str]:
    """Return the names of all published schemas."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> Json:
    """Return a published schema."""
    schema: Json = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return schema


def list_breaks(name: str) -> list[str]:
    """Return why the current schema breaks users of the published one."""
    if name not in PUBLISHED:
        return ["it is no longer published"]
    return find_breaks(read(name), build_json_schema(name), outbound=PUBLISHED[name].outbound)


def list_operations(document: Json) -> dict[str, str]:
    """Return the method and path of each operation of an OpenAPI document, by its id."""
    return {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, operations in sorted(document["paths"].items())
        for method, operation in sorted(operations.items())
    }


def read_operations() -> dict[str, str]:
    """Return the published operations."""
    operations: dict[str, str] = json.loads(OPERATIONS.read_text(encoding="utf-8"))
    return operations


def find_operation_breaks(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return which published operations were moved, renamed or removed."""
    return [
        f"{name} was {call} and is {after.get(name, 'no longer there')}"
        for name, call in before.items()
        if after.get(name) != call
    ]


def publish() -> int:
    """Write the current schemas over the published ones, unless one breaks users; return the exit code."""
    # Every process of the tests imports this module, and most need no app.
    from pipeline.interfaces.api.openapi_document import build_document  # noqa: PLC0415 - conftest imports us
    from pipeline.interfaces.app import ROUTERS  # noqa: PLC0415 - and few tests need it

    found = {name: list_breaks(name) for name in names()}
    operations = list_operations(build_document(ROUTERS, "https://exports.example"))
    found[OPERATIONS.stem] = find_operation_breaks(read_operations(), operations)
    refused = {name: reasons for name, reasons in found.items() if reasons}
    for name, reasons in refused.items():
        sys.stderr.write(f"{name} breaks its users:\n" + "".join(f"  {reason}\n" for reason in reasons))
    if refused:
        sys.stderr.write(REMEDY + "\n")
        return 1
    for name in PUBLISHED:
        schema = build_json_schema(name)
        if name not in found or read(name) != schema:
            text = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
            (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
            sys.stdout.write(f"published {name}\n")
    OPERATIONS.write_text(json.dumps(operations, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(publish())
