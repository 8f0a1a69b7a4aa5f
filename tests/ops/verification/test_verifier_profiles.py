"""A document of a broker's profile in the bundle: only the message names it, and its hash is checked."""

import json
from contextlib import closing
from pathlib import Path

from tests.ops.verification.bundles import Bundle, execute_to_handoff, open_runtime_with_partners, pack_bundle
from tests.ops.verification.conftest import Verify
from tests.support import factories

PROFILE = json.loads((Path(__file__).resolve().parents[3] / "examples" / "profiles" / "entry-import.json").read_text())
FILE = "0001-U1/entry_import.csv"


def test_changed_profile_document_is_reported(sqlite_url: str, tmp_path: Path, verify_bytes: Verify) -> None:
    # The broker receives no other document; its profile says that it wants this one.
    broker = {"profile": PROFILE, "artifactTypes": ["cci_pdf"]}
    with closing(open_runtime_with_partners(sqlite_url, tmp_path, broker)) as runtime:
        raw = pack_bundle(runtime, execute_to_handoff(runtime, factories.plan()))
    report = verify_bytes(raw)
    assert report.intact, report
    kinds = {check.path: check.artifact_type for check in report.checks}
    assert kinds[FILE] == "broker_profile"
    bundle = Bundle.from_zip(raw)
    artifacts = json.loads(bundle["broker_message.json"])["data"]["units"][0]["artifacts"]
    assert [link["artifactType"] for link in artifacts] == ["cci_pdf", "broker_profile"]
    changed = verify_bytes(bundle.with_({FILE: bundle[FILE].replace(b"PCS", b"DOZ", 1)}))
    assert {check.path for check in changed.checks if check.failure} == {FILE, "broker_message.json", "manifest.json"}
