"""The example dossier of a partner: what each kind gets, and that documents are shown without harm."""

import html
import json
import re
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.cache import MOST_WAITING, BuildCache
from pipeline.documents.pdf.supervisor import RENDERER
from pipeline.workflow import examples
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories

PROFILE = json.loads((Path(__file__).parents[4] / "examples" / "profiles" / "entry-import.json").read_text())
BROKER: dict[str, Any] = {"id": "br_e", "kind": "customs_broker", "name": "Example broker"}


def register(harness: ApiHarness, **facts: Any) -> None:
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(BROKER | facts))


def read_events(page: str) -> dict[str, Any]:
    """Return the CloudEvents on a page, by type."""
    found = re.findall(r'aria-label="(exports\.[\w.]+) as JSON">(.*?)</pre>', page, re.DOTALL)
    return {kind: json.loads(html.unescape(text)) for kind, text in found}


def test_broker_gets_its_handoff_its_documents_and_its_own_file(harness: ApiHarness) -> None:
    register(
        harness,
        channels=[{"channel": "email", "addresses": ["entries@broker.example"]}],
        artifactTypes=["cci_pdf", "cci_json", "cci_human_readable", "entry_import"],
        profile=PROFILE,
    )
    client = sign_in_browser(harness, "read")
    page = client.get("/console/partners/br_e/example").text
    events = read_events(page)
    names = "handoff.ready handoff.superseded handoff.replied handoff.withdrawn export.cancelled"
    assert events.keys() == {f"exports.{each}.v1" for each in names.split()}
    ready = events["exports.handoff.ready.v1"]["data"]
    assert (ready["test"], ready["batchId"]) == (True, "example")
    links = {each["artifactType"]: each for each in ready["units"][0]["artifacts"]}
    assert links.keys() == {"cci_pdf", "cci_json", "cci_human_readable", "entry_import", "broker_profile"}
    assert "[TEST] Export example" in page
    assert "This is a test. Do not file it." in page
    for name, link in links.items():
        kept = client.get(f"/console/partners/br_e/example/{name}")
        assert len(kept.content) == link["size"], name
        assert kept.headers["content-disposition"] == f'attachment; filename="{link["filename"]}"'
        assert kept.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    # A browser cannot show a ZIP.
    assert ("example/cci_json?open=true" in page, "example/entry_import?open=true" in page) == (True, False)
    opened = client.get("/console/partners/br_e/example/cci_json?open=true")
    assert opened.headers["content-type"] == "text/plain; charset=utf-8"
    assert opened.headers["content-disposition"].startswith("inline")
    assert client.get("/console/partners/br_e/example/cci_pdf?open=true").content.startswith(b"%PDF")
    assert client.get("/console/partners/br_e/example/cci_csv").status_code == 404


@pytest.mark.parametrize(
    ("partner", "expected"),
    [
        (factories.WAREHOUSE, ["exports.package.recorded.v1", "exports.package.superseded.v1"]),
        (factories.OPERATOR, ["exports.export.executed.v1", "exports.handoff.withdrawn.v1"]),
    ],
)
def test_others_get_messages_without_documents(harness: ApiHarness, partner: str, expected: list[str]) -> None:
    page = sign_in_browser(harness, "read").get(f"/console/partners/{partner}/example").text
    assert [*read_events(page)][:2] == expected
    assert "<h2>Documents</h2>" not in page


def test_example_belongs_to_the_account(harness: ApiHarness) -> None:
    register(harness)
    stranger = sign_in_browser(harness, "admin", account=OTHER)
    for address in ("/console/partners/br_e/example", "/console/partners/br_e/example/cci_json"):
        assert stranger.get(address).status_code == 404
        assert harness.client_with_key(None).get(address).headers["location"] == "/console/sign-in"


@pytest.mark.pdf_engine
@pytest.mark.system
def test_other_requests_do_not_wait_for_the_renderer(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "_rendered", BuildCache("the example documents", most_kept=1))
    register(harness)
    client = sign_in_browser(harness, "read")
    cookies, address = dict(client.cookies), f"{harness.url}/console/partners/br_e/example"

    def load(of: str) -> int:
        # A connection for each request: none waits for another's answer.
        return httpx.get(of, cookies=cookies, timeout=120, trust_env=False).status_code

    more = MOST_WAITING + 2
    with ThreadPoolExecutor(more) as pool:
        with RENDERER._lock:
            loads = [pool.submit(load, address) for _ in range(more)]
            refused = list(islice(as_completed(loads), more - MOST_WAITING))
            assert [each.result() for each in refused] == [503, 503]
            for _ in range(45):  # more than the service has threads
                assert load(f"{harness.url}/console/partners/br_e") == 200
            assert sum(each.done() for each in loads) == len(refused)
        assert [each.result() for each in loads].count(200) == MOST_WAITING
