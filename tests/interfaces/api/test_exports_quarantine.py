"""Quarantined exports: visible in inspect, list, pages and metrics, and retried."""

import pytest

from pipeline.core.errors import RendererCrashed
from pipeline.workflow import render_documents
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import TaskMessage
from tests.interfaces.api.conftest import ApiHarness, Open, execution
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.servers import poll

REASON = "the PDF engine died of SIGSEGV at packing_list.typ"


@pytest.fixture
def harness(open_harness: Open) -> ApiHarness:
    """An API whose worker makes one attempt."""
    return open_harness(step_max_attempts=1)


def test_quarantined_export_is_shown_everywhere_and_retried(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = harness.execute(factories.plan(batch="batch_sound"))
    broken = harness.execute(factories.plan())

    def render(_: object) -> None:
        raise RendererCrashed(REASON)

    with monkeypatch.context() as patched:
        patched.setattr(render_documents, "render_documents", render)
        for step in ("record_packages", "render_documents"):
            run_step(harness.runtime, broken, 1, step)
    client, looker = harness.client(), sign_in_browser(harness, "read")

    view = client.get(f"/api/exports/{broken}").json()
    assert (view["state"], view["quarantined"], view["failure"]) == ("failed", True, f"render_documents: {REASON}")
    shown = {value: client.get(f"/api/exports?quarantined={value}").json()["items"] for value in ("true", "false")}
    assert {value: [item["exportId"] for item in items] for value, items in shown.items()} == {
        "true": [broken],
        "false": [sound],
    }
    assert (shown["true"][0]["quarantined"], shown["true"][0]["failure"]) == (True, f"render_documents: {REASON}")
    assert "exports_quarantined 1.0" in harness.client_with_key(None).get("/metrics").text
    page = looker.get("/console/exports?quarantined=true").text
    assert (broken in page, sound in page) == (True, False)
    page = looker.get(f"/console/exports/{broken}").text
    assert '<span class="pill failed">quarantined</span>' in page
    assert "so the export is quarantined" in page

    retried = client.post(f"/api/exports/{broken}/retry")
    assert (retried.status_code, retried.json()["quarantined"], retried.json()["failure"]) == (202, False, None)
    assert TaskMessage(broken, 1, "render_documents") in harness.publisher.tasks
    harness.run(broken)
    assert client.get(f"/api/exports/{broken}").json()["state"] == "executed"
    poll(
        lambda: "exports_quarantined 0.0" in harness.client_with_key(None).get("/metrics").text,
        30,
        "it is not counted as quarantined",
    )


def test_cancelled_or_superseded_export_is_not_quarantined(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up, replaced = harness.execute(factories.plan(batch="given_up")), harness.execute(factories.plan())
    client, looker = harness.client(), sign_in_browser(harness, "read")

    def render(_: object) -> None:
        raise RendererCrashed(REASON)

    with monkeypatch.context() as patched:
        patched.setattr(render_documents, "render_documents", render)
        for export_id in (given_up, replaced):
            for step in ("record_packages", "render_documents"):
                run_step(harness.runtime, export_id, 1, step)
    assert "exports_quarantined 2.0" in harness.client_with_key(None).get("/metrics").text

    assert client.post(f"/api/exports/{given_up}/cancel").status_code == 200
    amended = client.post(f"/api/exports/{replaced}/amend", json=execution(factories.plan(invoice="INV-2")))
    assert amended.status_code == 202, amended.text

    poll(
        lambda: "exports_quarantined 0.0" in harness.client_with_key(None).get("/metrics").text,
        30,
        "one is counted as quarantined",
    )
    assert client.get("/api/exports?quarantined=true").json()["items"] == []
    found = {each["exportId"]: each for each in client.get("/api/exports?quarantined=false").json()["items"]}
    for export_id, outcome in ((given_up, "cancelled"), (replaced, "superseded")):
        assert (found[export_id]["outcome"], found[export_id]["quarantined"]) == (outcome, False)
        view = client.get(f"/api/exports/{export_id}").json()
        assert (view["outcome"], view["quarantined"]) == (outcome, False)
        assert ">quarantined<" not in looker.get(f"/console/exports/{export_id}").text
    assert '<span class="pill failed">quarantined</span>' not in looker.get("/console/exports").text
