"""Partners, deliveries, broker answers and the sandbox broker over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from sqlmodel import col, func, select

from pipeline import accounts, delivery, notifications, polling
from pipeline.channels.webhook import signed
from pipeline.execution import Wake
from pipeline.models import Acknowledgement, BrokerSubmission, SandboxHandoff
from pipeline.polling import Read
from pipeline.runtime import Runtime
from pipeline.signing import new_secret
from pipeline.web import create_app
from tests import builders
from tests.deliveries import exports
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.endpoint import poll
from tests.servers import LOOPBACK, free_port

OTHER = "acc_other"


@dataclass
class Launches:
    """A launcher that sends nothing and remembers what it was to wake."""

    woken: list[Wake] = field(default_factory=list)

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def launch(self, export_id: str, units: int) -> None:
        """Do nothing."""

    def wake(self, wakes: Sequence[Wake]) -> None:
        """Remember."""
        self.woken.extend(wakes)


@dataclass(frozen=True)
class Desk:
    """The running API, and what lies behind it."""

    url: str
    runtime: Runtime
    launches: Launches
    clients: ExitStack

    def stranger(self) -> httpx.Client:
        """Return a client without a key."""
        return self.clients.enter_context(httpx.Client(base_url=self.url, trust_env=False, timeout=10))

    def client(self, *roles: str, account: str = builders.ACCOUNT) -> httpx.Client:
        """Return a client whose key has the roles."""
        key = accounts.create_key(self.runtime, account, "of a test", mode="live", roles=roles or ("admin",))
        client = self.stranger()
        client.headers["Authorization"] = f"Bearer {key.bearer}"
        return client

    def submission(self, export: exports.Ready) -> BrokerSubmission:
        """Return the export's submission as it stands."""
        with self.runtime.db.read() as session:
            return session.exec(
                select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export.export_id)
            ).one()


@pytest.fixture
def desk(opened: OpenRuntime) -> Iterator[Desk]:
    """An API at an address that it knows itself, with two accounts, a broker and a warehouse."""
    port = free_port()
    runtime = opened(public_url=f"http://{LOOPBACK}:{port}")
    launches = Launches()
    config = uvicorn.Config(
        create_app(runtime, launches), host=LOOPBACK, port=port, log_config=None, ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        poll(lambda: server.started, 10)
        exports.register(runtime, builders.WAREHOUSE, "warehouse")
        accounts.create_account(runtime, OTHER, "Demo Housewares Inc")
        with ExitStack() as clients:
            yield Desk(f"http://{LOOPBACK}:{port}", runtime, launches, clients)
    finally:
        server.should_exit = True
        thread.join(10)


NEW: dict[str, Any] = {"id": "wh_new", "kind": "warehouse", "name": "Dock 4"}


def test_a_partners_secret_is_shown_once(desk: Desk) -> None:
    api = desk.client()
    made = api.post("/api/partners", json=NEW)
    assert made.status_code == 201
    assert made.headers["location"] == "/api/partners/wh_new"
    assert made.json()["secret"].startswith("whsec_")
    assert made.json()["channels"] == [{"channel": "queue"}]
    read = api.get("/api/partners/wh_new")
    assert read.status_code == 200
    assert "secret" not in read.json()
    assert made.json()["secret"] not in api.get("/api/partners").text


def test_a_partner_is_changed_paused_and_resumed(desk: Desk) -> None:
    api = desk.client()
    api.post("/api/partners", json=NEW | {"live": True})
    hook = {"channel": "webhook", "address": "https://dock.example/in"}
    changed = api.patch(
        "/api/partners/wh_new", json={"name": "Dock 5", "channels": [hook, {"channel": "queue"}]}
    ).json()
    assert (changed["name"], changed["channels"]) == ("Dock 5", [hook, {"channel": "queue"}])
    assert api.post("/api/partners/wh_new/pause").json()["state"] == "paused"
    assert api.post("/api/partners/wh_new/resume").json()["state"] == "live"
    assert api.post("/api/partners/wh_new/resume").json()["errorCode"] == "INVALID_STATE"


def test_a_partner_is_tested_and_activated(desk: Desk) -> None:
    api = desk.client()
    assert api.post("/api/partners", json=NEW).json()["state"] == "draft"
    refused = api.post("/api/partners/wh_new/activate")
    assert (refused.status_code, refused.json()["errorCode"]) == (409, "INVALID_STATE")
    assert "run its connection test" in refused.json()["message"]
    tested = api.post("/api/partners/wh_new/test")
    assert (tested.status_code, tested.json()["passed"], tested.json()["state"]) == (200, True, "verified")
    assert [set(stage) for stage in tested.json()["ways"][0]["stages"]] == [
        {"name", "passed", "durationMs", "found", "remedy"}
    ] * 3
    assert api.get("/api/partners/wh_new").json()["lastTest"]["id"] == tested.json()["id"]
    assert api.post("/api/partners/wh_new/activate").json()["state"] == "live"
    assert desk.client(account=OTHER).post("/api/partners/wh_new/test").status_code == 404


def test_the_sandbox_broker_passes_the_connection_test_on_both_its_paths(desk: Desk) -> None:
    api = desk.client()
    address = f"{desk.url}/sandbox/webhooks/{builders.ACCOUNT}/br_hook"
    new = {"kind": "customs_broker", "name": "Sandbox broker", "test": True}
    api.post("/api/partners", json=new | {"id": "br_hook", "channels": [{"channel": "webhook", "address": address}]})
    api.post("/api/partners", json=new | {"id": "br_buddy", "path": "borderbuddy"})
    for name in ("br_hook", "br_buddy"):
        tested = api.post(f"/api/partners/{name}/test").json()
        assert (tested["passed"], tested["state"]) == (True, "verified"), tested


def test_a_new_secret_is_shown_once_and_answers_count_that_either_signs(desk: Desk, clock: Clock) -> None:
    api = desk.client()
    export, old = handed_off(desk)
    submission = desk.submission(export)
    url = f"/api/partners/{submission.partner_id}/rotate-secret"
    rotated = api.post(url, json={"overlapHours": 2})
    assert (rotated.status_code, rotated.headers["cache-control"]) == (200, "no-store")
    new = rotated.json()["secret"]
    assert rotated.json()["previousEndsAt"] == "2026-11-24T17:00:00Z"
    assert new not in api.get("/api/partners").text

    def answered(number: int, secret: str) -> int:
        body = json.dumps({"id": f"A-{number}", "rung": "received"}).encode()
        headers = {"content-type": "application/json"} | signed(f"A-{number}", body, secret)
        return (
            desk.stranger()
            .post(f"/api/broker-submissions/{submission.id}/acknowledgements", content=body, headers=headers)
            .status_code
        )

    assert [answered(1, old), answered(2, new)] == [200, 200]
    clock.pass_seconds(2 * 3600)
    assert [answered(3, old), answered(4, new)] == [401, 200]
    assert api.post(url, json={"overlapHours": 169}).json()["field"] == "/overlapHours"
    assert api.post(url, json={}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "carrier"}, "/kind"),
        ({"surprise": 1}, "/surprise"),
        ({"channels": [{"channel": "webhook"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "pigeon"}]}, "/channels/0"),
        ({"channels": [{"channel": "queue", "address": "https://x.example"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "webhook", "address": "ftp://x.example"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "webhook", "address": "https://u:p@x.example"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "queue"}, {"channel": "queue"}]}, "/channels"),
        ({"channels": [{"channel": "borderbuddy"}]}, "/channels"),
        ({"path": "byob"}, "/path"),
        ({"id": builders.ACCOUNT}, "/id"),
        ({"id": builders.WAREHOUSE}, "/id"),
    ],
)
def test_a_partner_that_cannot_be_reached_is_refused_and_nothing_is_written(
    desk: Desk, changes: dict[str, Any], field: str
) -> None:
    api = desk.client()
    refused = api.post("/api/partners", json=NEW | changes)
    assert (refused.status_code, refused.json()["errorCode"], refused.json()["field"]) == (
        400,
        "VALIDATION_ERROR",
        field,
    )
    assert [each["id"] for each in api.get("/api/partners").json()["items"]] == [builders.WAREHOUSE]


def test_writing_partners_takes_the_role_admin_and_other_accounts_see_nothing(desk: Desk) -> None:
    assert desk.client("read", "operate", "execute").post("/api/partners", json=NEW).status_code == 403
    foreign = desk.client(account=OTHER)
    assert foreign.get(f"/api/partners/{builders.WAREHOUSE}").status_code == 404
    assert foreign.patch(f"/api/partners/{builders.WAREHOUSE}", json={"name": "Mine"}).status_code == 404
    assert foreign.get("/api/partners").json()["items"] == []


def handed_off(desk: Desk, *, invoice: str = "P", via: str = "borderbuddy") -> tuple[exports.Ready, str]:
    """Hand off an export whose invoice number begins so; return it and its broker's secret."""
    broker = f"br_{via}_{invoice}"
    facts: dict[str, Any] = {"path": "borderbuddy", "test": True}
    if via == "webhook":
        address = f"{desk.url}/sandbox/webhooks/{builders.ACCOUNT}/{broker}"
        facts = {"channels": [{"channel": "webhook", "address": address}]}
    made = exports.register(desk.runtime, broker, "customs_broker", **facts)
    export = exports.ready(desk.runtime, builders.plan(broker=broker, invoice=invoice, batch=f"batch-{via}-{invoice}"))
    exports.hand_off(desk.runtime, export)
    delivery.tell(desk.runtime, export.context, notifications.BROKER)
    return export, made.secret


@pytest.mark.parametrize("via", ["borderbuddy", "webhook"])
@pytest.mark.parametrize(
    ("invoice", "rung"),
    [("A", "accepted"), ("R", "rejected"), ("Q", "query"), ("D1", "accepted"), ("H1", "held"), ("INV", "accepted")],
)
def test_the_sandbox_broker_answers_as_the_invoice_number_asks(desk: Desk, via: str, invoice: str, rung: str) -> None:
    export, _ = handed_off(desk, invoice=invoice, via=via)
    poll(lambda: desk.submission(export).state == rung)
    with desk.runtime.db.read() as session:
        answers = session.exec(select(Acknowledgement)).all()
    final = next(each for each in answers if each.rung == rung)
    if rung == "rejected":
        assert [each["pointer"] for each in final.fields] == [
            "/units/0/lines/0/htsCode",
            "/units/0/parties/importerOfRecord/importerNumber",
        ]


@pytest.mark.parametrize("via", ["borderbuddy", "webhook"])
def test_the_sandbox_broker_never_answers_a_p_and_fails_an_f(desk: Desk, via: str) -> None:
    silent, _ = handed_off(desk, invoice="P", via=via)
    broken, _ = handed_off(desk, invoice="F", via=via)
    assert (desk.submission(silent).state, desk.submission(broken).state) == ("delivered", "sent")
    owed = desk.client("read").get("/api/deliveries", params={"exportId": broken.export_id, "state": "pending"}).json()
    tried = [each for each in owed["items"] if each["audience"] == "customs_broker"]
    assert [(each["tries"][0]["status"], each["tries"][0]["outcome"]) for each in tried] == [("503", "failed")]


def test_the_same_handoff_twice_is_one_for_the_sandbox_and_answered_alike(desk: Desk) -> None:
    export, _ = handed_off(desk, invoice="R")
    (done,) = [each for each in exports.deliveries(desk.runtime, export.export_id) if each.audience == "customs_broker"]
    delivery.resend(desk.runtime, builders.ACCOUNT, done.id, "key_1")
    delivery.tell(desk.runtime, export.context, notifications.BROKER)
    with desk.runtime.db.read() as session:
        assert session.exec(select(func.count()).select_from(SandboxHandoff)).one() == 1
        assert session.exec(select(func.count()).select_from(Acknowledgement)).one() == 1
    assert exports.log_of(desk.runtime, export.export_id).count("BROKER_REJECTED") == 1


def test_the_sandbox_lists_what_it_received_newest_first_and_shows_it_to_people(desk: Desk) -> None:
    made = [handed_off(desk, invoice=invoice)[0] for invoice in ("R", "P", "H1")]
    reader = desk.client("read")
    first = reader.get("/sandbox/handoffs", params={"limit": 2}).json()
    second = reader.get("/sandbox/handoffs", params={"limit": 2, "cursor": first["nextCursor"]}).json()
    items = first["items"] + second["items"]
    assert second["nextCursor"] is None
    assert {each["exportId"] for each in items} == {each.export_id for each in made}
    by_outcome = {each["outcome"]: each for each in items}
    assert by_outcome.keys() == {"held", "none", "rejected"}
    assert (by_outcome["none"]["answer"], by_outcome["rejected"]["answer"]["status"]) == (None, "rejected")
    assert by_outcome["rejected"]["rung"] == "rejected"
    assert desk.client("read", account=OTHER).get("/sandbox/handoffs").json()["items"] == []
    person = desk.stranger()
    assert person.get("/console/sandbox").headers["location"] == "/console/sign-in"
    key = accounts.create_key(desk.runtime, builders.ACCOUNT, "a person's", mode="live", roles=("read",))
    person.post("/console/sign-in", data={"key": key.bearer})
    page = person.get("/console/sandbox").text
    assert all(each.export_id in page for each in made)
    assert "Rejected by the sandbox broker" in page


def test_the_sandbox_tells_of_a_handoff_when_it_is_asked(desk: Desk) -> None:
    export, _ = handed_off(desk, invoice="R")
    submission = desk.submission(export)
    assert polling.ask_endpoint(desk.runtime, submission.id) == Read(repeated=1)
    assert str(submission.handoff_id).startswith("sbx-")


def test_strangers_hand_nothing_to_the_sandbox_and_learn_nothing(desk: Desk) -> None:
    plain = desk.stranger()
    assert plain.post("/sandbox/borderbuddy/handoffs", content=b"{}").status_code == 401
    assert plain.get("/sandbox/borderbuddy/handoffs/sbx-ntf_1").status_code == 401
    assert plain.post(f"/sandbox/webhooks/{builders.ACCOUNT}/{builders.WAREHOUSE}", content=b"{}").status_code == 401
    assert plain.post("/sandbox/webhooks/acc_none/none", content=b"{}").status_code == 401


def test_an_answer_signed_by_the_partner_is_recorded_once(desk: Desk) -> None:
    export, secret = handed_off(desk)
    url = f"/api/broker-submissions/{desk.submission(export).id}/acknowledgements"
    answer = json.dumps({"id": "a-1", "rung": "released", "entryNumber": "ABC-1234567-8"}).encode()
    plain = desk.stranger()
    first = plain.post(url, content=answer, headers=signed("a-1", answer, secret))
    again = plain.post(url, content=answer, headers=signed("a-1", answer, secret))
    assert (first.status_code, first.json()["rung"], first.json()["recorded"]) == (200, "released", True)
    assert (again.status_code, again.json()["rung"], again.json()["recorded"]) == (200, "released", False)
    assert exports.log_of(desk.runtime, export.export_id)[-1:] == ["BROKER_RELEASED"]


def test_answers_out_of_order_are_kept_and_never_lead_down(desk: Desk) -> None:
    export, _ = handed_off(desk)
    url = f"/api/broker-submissions/{desk.submission(export).id}/acknowledgements"
    broker = desk.client(f"partner:{desk.submission(export).partner_id}")
    for number, (rung, stands) in enumerate(
        [("filed", "filed"), ("received", "filed"), ("accepted", "filed"), ("held", "held"), ("released", "released")]
    ):
        said = broker.post(url, json={"id": f"a-{number}", "rung": rung}).json()
        assert (said["rung"], said["recorded"]) == (stands, True)
    view = desk.client("read").get(f"/api/exports/{export.export_id}").json()["broker_submission"]
    assert (view["rung"], len(view["acknowledgements"])) == ("released", 5)


def test_20_same_answers_at_once_count_once(desk: Desk) -> None:
    export, _ = handed_off(desk)
    submission_id = desk.submission(export).id
    broker = desk.client("operate")
    together = threading.Barrier(20)

    def say() -> None:
        together.wait()
        broker.post(f"/api/broker-submissions/{submission_id}/acknowledgements", json={"id": "a-1", "rung": "accepted"})

    threads = [threading.Thread(target=say) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exports.log_of(desk.runtime, export.export_id).count("BROKER_ACKNOWLEDGED") == 1


def test_who_may_not_answer_is_refused_and_nothing_moves(desk: Desk) -> None:
    export, secret = handed_off(desk)
    submission = desk.submission(export)
    url = f"/api/broker-submissions/{submission.id}/acknowledgements"
    answer = b'{"id": "a-1", "rung": "accepted"}'
    plain = desk.stranger()
    refused = [
        plain.post(url, content=answer),
        plain.post(url, content=answer, headers=signed("a-1", answer, new_secret())),
        plain.post(url, content=answer + b" ", headers=signed("a-1", answer, secret)),
        plain.post(
            "/api/broker-submissions/sub_0/acknowledgements", content=answer, headers=signed("a", answer, secret)
        ),
        desk.client("partner:br_other").post(url, content=answer),
        desk.client("read", "execute").post(url, content=answer),
        desk.client(account=OTHER).post(url, content=answer),
        desk.client("operate").post(url, content=b'{"id": "a-1", "rung": "pending"}'),
        desk.client("operate").post(
            url, content=b'{"id": "a-1", "rung": "accepted", "message": "' + b"x" * 70_000 + b'"}'
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
    assert desk.submission(export).state == "delivered"
    assert "BROKER_ACKNOWLEDGED" not in exports.log_of(desk.runtime, export.export_id)


def test_deliveries_are_listed_by_their_filters_and_resent_by_operators(desk: Desk) -> None:
    export, _ = handed_off(desk)
    reader, operator = desk.client("read"), desk.client("operate")
    page = reader.get("/api/deliveries", params={"exportId": export.export_id, "limit": 2}).json()
    rest = reader.get("/api/deliveries", params={"exportId": export.export_id, "cursor": page["nextCursor"]}).json()
    assert (len(page["items"]), len(rest["items"]), rest["nextCursor"]) == (2, 2, None)
    (done,) = reader.get("/api/deliveries", params={"state": "delivered"}).json()["items"]
    assert reader.post(f"/api/deliveries/{done['id']}/resend").status_code == 403
    assert desk.client(account=OTHER).post(f"/api/deliveries/{done['id']}/resend").status_code == 404
    owed = operator.post(f"/api/deliveries/{done['id']}/resend")
    assert (owed.status_code, owed.json()["state"], owed.json()["notificationId"]) == (
        202,
        "pending",
        done["notificationId"],
    )
    assert [(each.export_id, each.partner_id, each.channel) for each in desk.launches.woken] == [
        (export.export_id, done["partnerId"], "borderbuddy")
    ]
    assert operator.post(f"/api/deliveries/{done['id']}/resend").json()["errorCode"] == "INVALID_STATE"
    assert desk.client(account=OTHER).get("/api/deliveries").json()["items"] == []
