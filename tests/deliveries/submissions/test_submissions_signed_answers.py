"""Deliveries, broker answers and the sandbox broker over real HTTP."""

import json
import threading

import pytest
from sqlmodel import func, select, update

from pipeline.accounts import partners
from pipeline.accounts.models import UsedSignature
from pipeline.accounts.schemas import NewPartner
from pipeline.accounts.secrets import generate_secret
from pipeline.core.db import database_now
from pipeline.deliveries import polling, resend, sandbox_broker
from pipeline.deliveries.models import Acknowledgement, Notification, SandboxHandoff
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.polling import PollResult
from pipeline.deliveries.streams import sender
from pipeline.deliveries.streams.messages import build_cloud_event
from pipeline.deliveries.submissions.signature import build_signature_headers
from tests.deliveries.support import exports
from tests.deliveries.support.scenario import OTHER, ApiHarness, hand_off
from tests.support import factories, stored
from tests.support.people import sign_in_client
from tests.support.servers import poll


@pytest.mark.parametrize("via", ["borderbuddy", "webhook"])
@pytest.mark.parametrize(
    ("invoice", "status"),
    [("A", "accepted"), ("R", "rejected"), ("Q", "query"), ("D1", "accepted"), ("H1", "held"), ("INV", "accepted")],
)
def test_sandbox_broker_answers_as_the_invoice_number_says(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch, via: str, invoice: str, status: str
) -> None:
    schedule = sandbox_broker._schedule
    monkeypatch.setattr(sandbox_broker, "_schedule", lambda seconds, action: schedule(seconds / 10, action))
    export, _ = hand_off(harness, invoice=invoice, via=via)
    poll(lambda: harness.submission(export).state == status)
    answers = stored.rows(harness.runtime, select(Acknowledgement))
    final = next(each for each in answers if each.status == status)
    if status == "rejected":
        assert [each["pointer"] for each in final.fields] == [
            "/units/0/lines/0/htsCode",
            "/units/0/parties/importerOfRecord/importerNumber",
        ]


@pytest.mark.parametrize("via", ["borderbuddy", "webhook"])
def test_sandbox_broker_never_answers_p_and_fails_f(harness: ApiHarness, via: str) -> None:
    silent, _ = hand_off(harness, invoice="P", via=via)
    broken, _ = hand_off(harness, invoice="F", via=via)
    assert (harness.submission(silent).state, harness.submission(broken).state) == ("delivered", "sent")
    listed = (
        harness.client("read").get("/api/deliveries", params={"exportId": broken.export_id, "state": "pending"}).json()
    )
    tried = [each for each in listed["items"] if each["audience"] == "customs_broker"]
    assert [(each["tries"][0]["status"], each["tries"][0]["outcome"]) for each in tried] == [("503", "failed")]


def test_repeated_handoff_is_one_sandbox_entry_with_the_same_answer(harness: ApiHarness) -> None:
    export, _ = hand_off(harness, invoice="R")
    (done,) = [
        each for each in exports.list_deliveries(harness.runtime, export.export_id) if each.audience == "customs_broker"
    ]
    resend.resend_delivery(harness.runtime, factories.ACCOUNT, done.id, "key_1")
    sender.notify_audience(harness.runtime, export.context, outbox.BROKER)
    with harness.runtime.db.read() as session:
        assert session.exec(select(func.count()).select_from(SandboxHandoff)).one() == 1
        assert session.exec(select(func.count()).select_from(Acknowledgement)).one() == 1
    assert exports.read_event_types(harness.runtime, export.export_id).count("BROKER_REJECTED") == 1


def test_sandbox_lists_handoffs_newest_first(harness: ApiHarness) -> None:
    made = [hand_off(harness, invoice=invoice)[0] for invoice in ("R", "P", "H1")]
    reader = harness.client("read")
    first = reader.get("/sandbox/handoffs", params={"limit": 2}).json()
    second = reader.get("/sandbox/handoffs", params={"limit": 2, "cursor": first["nextCursor"]}).json()
    items = first["items"] + second["items"]
    assert second["nextCursor"] is None
    assert {each["exportId"] for each in items} == {each.export_id for each in made}
    by_outcome = {each["outcome"]: each for each in items}
    assert by_outcome.keys() == {"held", "none", "rejected"}
    assert (by_outcome["none"]["answer"], by_outcome["rejected"]["answer"]["status"]) == (None, "rejected")
    assert by_outcome["rejected"]["submissionStatus"] == "rejected"
    assert harness.client("read", account=OTHER).get("/sandbox/handoffs").json()["items"] == []
    person = harness.client_without_key()
    assert person.get("/console/sandbox").headers["location"] == "/console/sign-in"
    sign_in_client(person, harness.runtime, "read")
    page = person.get("/console/sandbox").text
    assert all(each.export_id in page for each in made)
    assert "Rejected by the sandbox broker" in page


def test_sandbox_answers_polls(harness: ApiHarness) -> None:
    export, _ = hand_off(harness, invoice="R")
    submission = harness.submission(export)
    assert polling.poll_endpoint(harness.runtime, submission.id) == PollResult(repeated=1)
    assert str(submission.handoff_id).startswith("sbx-")


def test_unsigned_sandbox_handoff_is_refused(harness: ApiHarness) -> None:
    plain = harness.client_without_key()
    assert plain.post("/sandbox/borderbuddy/handoffs", content=b"{}").status_code == 401
    assert plain.get("/sandbox/borderbuddy/handoffs/sbx-ntf_1").status_code == 401
    assert plain.post(f"/sandbox/webhooks/{factories.ACCOUNT}/{factories.WAREHOUSE}", content=b"{}").status_code == 401
    assert plain.post("/sandbox/webhooks/acc_none/none", content=b"{}").status_code == 401


def test_sandbox_answers_only_handoffs_of_the_signer(harness: ApiHarness) -> None:
    """The sandbox signs with the secret of the handoff's partner, so only that partner may ask for it."""
    export, secret = hand_off(harness, invoice="R", via="webhook")
    poll(lambda: harness.submission(export).state == "rejected")
    (done,) = [
        each for each in exports.list_deliveries(harness.runtime, export.export_id) if each.audience == "customs_broker"
    ]
    body = build_cloud_event(
        harness.runtime.settings, stored.get(harness.runtime, Notification, done.notification_id), None
    )
    broker = harness.submission(export).partner_id
    beside = exports.register(harness.runtime, "wh_beside", "warehouse").secret
    elsewhere = partners.create_partner(
        harness.runtime, OTHER, NewPartner(id=broker, kind="customs_broker", name="Other")
    ).secret
    # With its own id it is not a repetition, and gets another answer.
    asked = body.replace(done.notification_id.encode(), b"ntf-of-somebody").replace(b'"number": "R', b'"number": "A')
    assert asked.count(b'"number": "A') == 1
    plain = harness.client_without_key()

    def post(account: str, partner: str, secret: str) -> int:
        address = f"/sandbox/webhooks/{account}/{partner}"
        return plain.post(address, content=asked, headers=build_signature_headers("1", asked, secret)).status_code

    assert post(factories.ACCOUNT, "wh_beside", beside) == post(OTHER, broker, elsewhere) == 404
    assert stored.one(harness.runtime, select(func.count()).select_from(SandboxHandoff)) == 1
    assert harness.submission(export).state == "rejected"
    assert post(factories.ACCOUNT, broker, secret) == 204
    poll(lambda: harness.submission(export).state == "accepted")


def test_signature_is_valid_for_one_submission(harness: ApiHarness) -> None:
    first, secret = hand_off(harness)
    broker = harness.submission(first).partner_id
    second = exports.prepare_export(harness.runtime, factories.plan(broker=broker, invoice="P", batch="batch-second"))
    exports.hand_off(harness.runtime, second)
    answer = json.dumps({"id": "a-1", "status": "released"}).encode()
    plain = harness.client_without_key()

    def say(export: exports.PreparedExport, call: str, body: bytes, headers: dict[str, str]) -> int:
        return plain.post(
            f"/api/broker-submissions/{harness.submission(export).id}/{call}", content=body, headers=headers
        ).status_code

    for call, body in (("acknowledgements", answer), ("links", b"")):
        overheard = build_signature_headers("a-1", body, secret)
        assert [say(first, call, body, overheard) for _ in range(2)] == [200, 200], "an exact repetition is allowed"
        for spelled in ("{}", "{}.0", "{}.5", "0{}", "+{}", "{}e0", "{}_0"):
            same = {"webhook-timestamp": spelled.format(overheard["webhook-timestamp"])}
            assert say(second, call, body, overheard | same) == 401, spelled
        assert say(second, call, body, build_signature_headers("a-2", body, secret)) == 200
    with harness.runtime.db.write() as session:
        assert session.exec(select(func.count()).select_from(UsedSignature)).one() == 4
        session.execute(update(UsedSignature).values(used_at=database_now(-7200)))
    assert say(second, "links", b"", build_signature_headers("a-3", b"", secret)) == 200
    assert stored.one(harness.runtime, select(func.count()).select_from(UsedSignature)) == 1, (
        "old signatures are deleted"
    )


def test_answers_out_of_order_are_recorded_and_never_move_back(harness: ApiHarness) -> None:
    export, _ = hand_off(harness)
    url = f"/api/broker-submissions/{harness.submission(export).id}/acknowledgements"
    broker = harness.client(f"partner:{harness.submission(export).partner_id}")
    for number, (status, stands) in enumerate(
        [("filed", "filed"), ("received", "filed"), ("accepted", "filed"), ("held", "held"), ("released", "released")]
    ):
        receipt = broker.post(url, json={"id": f"a-{number}", "status": status}).json()
        assert (receipt["submissionStatus"], receipt["recorded"]) == (stands, True)
    view = harness.client("read").get(f"/api/exports/{export.export_id}").json()["broker_submission"]
    assert (view["submission_status"], len(view["acknowledgements"])) == ("released", 5)


def test_20_concurrent_equal_answers_count_once(harness: ApiHarness) -> None:
    export, _ = hand_off(harness)
    submission_id = harness.submission(export).id
    broker = harness.client("operate")
    together = threading.Barrier(20)

    def say() -> None:
        together.wait()
        broker.post(
            f"/api/broker-submissions/{submission_id}/acknowledgements", json={"id": "a-1", "status": "accepted"}
        )

    threads = [threading.Thread(target=say) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exports.read_event_types(harness.runtime, export.export_id).count("BROKER_ACKNOWLEDGED") == 1


def test_unauthorized_answer_is_refused_and_moves_nothing(harness: ApiHarness) -> None:
    export, secret = hand_off(harness)
    submission = harness.submission(export)
    url = f"/api/broker-submissions/{submission.id}/acknowledgements"
    answer = b'{"id": "a-1", "status": "accepted"}'
    plain = harness.client_without_key()
    refused = [
        plain.post(url, content=answer),
        plain.post(url, content=answer, headers=build_signature_headers("a-1", answer, generate_secret())),
        plain.post(url, content=answer + b" ", headers=build_signature_headers("a-1", answer, secret)),
        plain.post(
            "/api/broker-submissions/sub_0/acknowledgements",
            content=answer,
            headers=build_signature_headers("a", answer, secret),
        ),
        harness.client("partner:br_other").post(url, content=answer),
        harness.client("read", "execute").post(url, content=answer),
        harness.client(account=OTHER).post(url, content=answer),
        harness.client("operate").post(url, content=b'{"id": "a-1", "status": "pending"}'),
        harness.client("operate").post(
            url, content=b'{"id": "a-1", "status": "accepted", "message": "' + b"x" * 70_000 + b'"}'
        ),
    ]
    assert [(each.status_code, each.json()["errorCode"]) for each in refused] == [
        *[(401, "INVALID_API_KEY")] * 4,
        (403, "INSUFFICIENT_ROLE"),
        (403, "INSUFFICIENT_ROLE"),
        (404, "NOT_FOUND"),
        (400, "VALIDATION_ERROR"),
        (413, "PAYLOAD_TOO_LARGE"),
    ]
    assert harness.submission(export).state == "delivered"
    assert "BROKER_ACKNOWLEDGED" not in exports.read_event_types(harness.runtime, export.export_id)


def test_deliveries_are_listed_by_filters_and_resent_by_operators(harness: ApiHarness) -> None:
    export, _ = hand_off(harness)
    reader, operator = harness.client("read"), harness.client("operate")
    page = reader.get("/api/deliveries", params={"exportId": export.export_id, "limit": 2}).json()
    rest = reader.get("/api/deliveries", params={"exportId": export.export_id, "cursor": page["nextCursor"]}).json()
    assert (len(page["items"]), len(rest["items"]), rest["nextCursor"]) == (2, 2, None)
    (done,) = reader.get("/api/deliveries", params={"state": "delivered"}).json()["items"]
    assert reader.post(f"/api/deliveries/{done['id']}/resend").status_code == 403
    assert harness.client(account=OTHER).post(f"/api/deliveries/{done['id']}/resend").status_code == 404
    resent = operator.post(f"/api/deliveries/{done['id']}/resend")
    assert (resent.status_code, resent.json()["state"], resent.json()["notificationId"]) == (
        202,
        "pending",
        done["notificationId"],
    )
    assert [(each.export_id, each.partner_id, each.channel) for each in harness.publisher.tasks] == [
        (export.export_id, done["partnerId"], "borderbuddy")
    ]
    assert operator.post(f"/api/deliveries/{done['id']}/resend").status_code == 202, "a pending one is sent now"
    assert harness.client(account=OTHER).get("/api/deliveries").json()["items"] == []
