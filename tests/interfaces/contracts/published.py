"""The schemas as they were published, each version for good: what those who build on us were written to.

`make contracts` publishes what was added since. It refuses what breaks: then a new version of the message, or a new name, stands
beside the old.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema
from tests.interfaces.contracts.compatibility import Json, find_breaks

FOLDER: Final = Path(__file__).parent / "schemas"

REMEDY: Final = """\
Readers and senders out there know the published schema. Keep what it promises and say the new thing beside it: an optional member, or
a new version (exports.thing.happened.v2) beside the old. A schema that nobody has yet is published anew by deleting its file first."""


def names() -> list[str]:
    """Return the names of the schemas that were ever published."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> Json:
    """Return a schema as it was published."""
    schema: Json = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return schema


def list_breaks(name: str) -> list[str]:
    """Return why the schema of today breaks those who know the published one."""
    if name not in PUBLISHED:
        return ["it is no longer published"]
    return find_breaks(read(name), build_json_schema(name), outbound=PUBLISHED[name].outbound)


def publish() -> int:
    """Write the schemas of today over the published ones, unless one of them breaks; return the exit code."""
    found = {name: list_breaks(name) for name in names()}
    refused = {name: reasons for name, reasons in found.items() if reasons}
    for name, reasons in refused.items():
        sys.stderr.write(f"{name} breaks those who know it:\n" + "".join(f"  {reason}\n" for reason in reasons))
    if refused:
        sys.stderr.write(REMEDY + "\n")
        return 1
    for name in PUBLISHED:
        schema = build_json_schema(name)
        if name not in found or read(name) != schema:
            text = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
            (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
            sys.stdout.write(f"published {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(publish())
