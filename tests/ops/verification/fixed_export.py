"""A program that executes one export with a fixed clock and fixed ids, and writes its bundle into a folder."""

import itertools
import json
import secrets
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from pipeline.core.db import Database
from pipeline.ops.migrations.runner import upgrade_database
from tests.ops.verification.bundles import execute_to_handoff, open_runtime_with_partners, pack_bundle
from tests.support import factories

INSTANT = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
LINE = "/units/1/lines/2"


def plan() -> factories.Json:
    """Return a plan with everything that documents can hold, in several scripts."""
    plan_json = factories.plan(units=2, lines=4)
    for pointer, value in {
        f"{LINE}/description": "Chemise à carreaux pour l'été, 100 % coton, 男式衬衫, рубашка",
        f"{LINE}/attributes": {"fibre": "coton", "zone": "Québec", "alpha": "1"},
        "/units/1/parties/seller/name": "Érablière & Fils Ltée <demo>",
    }.items():
        plan_json = factories.change_plan(plan_json, pointer, value)
    return plan_json


def bundle(folder: Path) -> bytes:
    """Execute the plan in the empty folder, for a broker with a profile, and return its bundle."""
    profile = json.loads(Path("examples/profiles/entry-import.json").read_text(encoding="utf-8"))
    broker = {"profile": profile | {"format": "xlsx", "filename": "entry_import.xlsx"}}
    url = f"sqlite:///{folder / 'exports.db'}"
    database = Database(url)
    upgrade_database(database)
    database.dispose()
    with (
        mock.patch.object(secrets, "randbits", side_effect=itertools.count(1)),
        mock.patch.object(time, "time_ns", return_value=int(INSTANT.timestamp()) * 10**9),
        closing(open_runtime_with_partners(url, folder, broker, clock=lambda: INSTANT)) as runtime,
    ):
        return pack_bundle(runtime, execute_to_handoff(runtime, plan()))


if __name__ == "__main__":
    Path(sys.argv[1], "bundle.zip").write_bytes(bundle(Path(sys.argv[1])))
