"""Each way of a broker's answer against each wrong or unusual case: what counts, what is refused, and that nothing more is."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx
import pytest
from kombu import Connection
from sqlmodel import col, func, select

from config import queues
from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.accounts.secrets import generate_secret
from pipeline.deliveries import mail_replies, polling
from pipeline.deliveries.channels import imap_mailbox
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions.reply_links import build_reply_link
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.ops.rebuild import service
from tests.deliveries.conftest import empty_queues
from tests.deliveries.support import exports
from tests.deliveries.test_mail_replies import compose
from tests.deliveries.test_polling_endpoint import RECEIVED, encode_status
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.portal.conftest import open_portal
from tests.support import factories, stored
from tests.support.http_endpoint import Endpoint
from tests.support.imap_server import KeptMail, MailboxServer
from tests.support.mail_server import CLERK, DESK, MailServer
from tests.support.own_logs import capture_own_logs
from tests.support.sftp_server import PASSWORD, SftpServer
from tests.tasks.test_intake import IntakeHarness, run_intake

Json = dict[str, Any]
OWN, OTHER = "br_own", "br_else"
CANARY: Final = "canary of a purged export"


class Way:
    """A way to answer. `says` sends an answer as the `own` or the `foreign` customs broker, or `forged`."""

    cases: ClassVar[tuple[str, ...]] = ("forged", "foreign", "first", "again", "changed", "earlier", "late", "purged")
    settings: Json
    channel: Json

    def __init__(self, opened: ExitStack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.channel = {}, {"channels": [{"channel": "queue"}]}
        self.opened = opened
        self.start(folder, monkeypatch)

    def start(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Start the servers of the way."""

    def says(self, site: "Site", answer: Json, who: str) -> bool:
        """Return whether the answer was taken, new or repeated."""
        raise NotImplementedError


@dataclass
class Site:
    """Two customs brokers of one account, each with a handoff; `own` is the one that is answered."""

    harness: ApiHarness
    secrets: dict[str, str]
    handoffs: dict[str, str] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)

    def hand_off(self, broker: str) -> None:
        plan = factories.plan(broker=broker, batch=f"batch-{broker}")
        self.exports[broker] = self.harness.execute(plan)
        self.harness.run(self.exports[broker])
        of_export = select(BrokerSubmission.id).where(col(BrokerSubmission.export_id) == self.exports[broker])
        self.handoffs[broker] = stored.one(self.harness.runtime, of_export)

    def amend(self) -> str:
        """Replace the unit of the own broker's export by other goods, and return the new revision."""
        plan = factories.plan(broker=OWN, batch=f"batch-{OWN}")
        plan["units"][0]["invoice"]["purchaseOrder"] = "PO-2"
        request = {"accountId": factories.ACCOUNT, "batchId": plan["batchId"], "plan": plan}
        amended = self.harness.client().post(f"/api/exports/{self.exports[OWN]}/amend", json=request)
        assert amended.status_code == 202, amended.text
        self.harness.run(amended.json()["exportId"])
        return str(amended.json()["exportId"])

    def find_notification(self, broker: str) -> str:
        found = select(Notification.id).where(
            col(Notification.export_id) == self.exports[broker],
            col(Notification.event_type) == MessageType.HANDOFF_READY.value,
        )
        return stored.one(self.harness.runtime, found)

    def count(self, broker: str = OWN) -> int:
        of_handoff = select(func.count()).where(col(Acknowledgement.submission_id) == self.handoffs[broker])
        return stored.one(self.harness.runtime, of_handoff.select_from(Acknowledgement))

    def state(self) -> str:
        of_handoff = select(BrokerSubmission.state).where(col(BrokerSubmission.id) == self.handoffs[OWN])
        return stored.one(self.harness.runtime, of_handoff)

    def sign(self, body: bytes, who: str) -> dict[str, str]:
        secret = {"own": self.secrets[OWN], "foreign": self.secrets[OTHER]}.get(who) or generate_secret()
        return build_signature_headers("m-1", body, secret)


class Signed(Way):
    """A signed request to the API."""

    def says(self, site: Site, answer: Json, who: str) -> bool:
        body = json.dumps(answer).encode()
        url = f"/api/broker-submissions/{site.handoffs[OWN]}/acknowledgements"
        return site.harness.client_with_key(None).post(url, content=body, headers=site.sign(body, who)).is_success


class Queued(Way):
    """A signed message in the queue of answers."""

    def start(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        empty_queues()
        with Connection("memory://") as connection:
            connection.default_channel.queue_purge("answers")

    def says(self, site: Site, answer: Json, who: str) -> bool:
        secret = {"own": site.secrets[OWN], "foreign": site.secrets[OTHER]}.get(who) or generate_secret()
        intake = IntakeHarness(site.harness.runtime, "memory://", secret)
        with run_intake(site.harness.runtime):
            intake.acknowledge(answer | {"submissionId": site.handoffs[OWN]})
            (reply,) = intake.take_messages("answers")
        dead = [bytes(each.body) for each in intake.take_messages(queues.DEAD, seconds=0.02)]
        assert not any(CANARY.encode() in each for each in dead)
        return "recorded" in json.loads(reply.body)


class Polled(Way):
    """An answer that the borderbuddy endpoint gives to a poll; nobody can forge it."""

    cases = tuple(each for each in Way.cases if each != "forged")

    def start(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.endpoint = self.opened.enter_context(Endpoint([RECEIVED]))
        self.settings |= {"borderbuddy_url": self.endpoint.url}
        self.channel = {"path": "borderbuddy"}

    def says(self, site: Site, answer: Json, who: str) -> bool:
        about = "BB/1" if who == "own" else "BB/2"
        self.endpoint._script[:] = [encode_status(answer, handoff_id=about)]
        result = polling.poll_endpoint(site.harness.runtime, site.handoffs[OWN])
        return bool(result.recorded or result.repeated)


class Filed(Way):
    """A file on the customs broker's own server; a forged one names a handoff that is none."""

    def start(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "in").mkdir(parents=True)
        self.server = self.opened.enter_context(SftpServer(folder))
        self.channel = {"path": "byob", "channels": [self.server.endpoint() | {"password": PASSWORD}]}

    def says(self, site: Site, answer: Json, who: str) -> bool:
        named = f"sub_{'0' * 32}" if who == "forged" else site.handoffs[OWN]
        (self.server.root / "in" / "a.json").write_text(json.dumps(answer | {"submissionId": named}))
        # Both customs brokers have the same server, but each poll is one partner's.
        asks = OTHER if who == "foreign" else OWN
        result = polling.poll_folder(site.harness.runtime, factories.ACCOUNT, asks, "sftp")
        return bool(result.recorded or result.repeated)


class Portal(Way):
    """A form of the portal. An answer by form has no time and no id of its own: its form and content are its id."""

    cases = tuple(each for each in Way.cases if each != "late")

    def says(self, site: Site, answer: Json, who: str) -> bool:
        if "at" in answer:
            return Signed.says(self, site, answer, who)  # type: ignore[arg-type] # only a site is read
        return self.submits(site, {name: answer[name] for name in ("status", "message") if name in answer}, who)

    def submits(self, site: Site, answer: Json, who: str) -> bool:
        page = f"/portal/handoffs/{site.handoffs[OWN]}"
        if not hasattr(self, "form"):
            self.own, self.foreign = (open_portal(site.harness, each) for each in (OWN, OTHER))
            self.form = read_form(self.own, page)
        form = self.form | ({"csrf_token": "0" * 32} if who == "forged" else {})
        if who == "foreign":
            form |= read_form(self.foreign, f"/portal/handoffs/{site.handoffs[OTHER]}")
        return (self.foreign if who == "foreign" else self.own).post(f"{page}/answer", data=form | answer).is_redirect


class Linked(Portal):
    """The form behind the link of an e-mail. The link of another customs broker answers only that one's handoff."""

    def start(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        smtp = self.opened.enter_context(MailServer())
        self.settings |= {"smtp_url": f"smtp://127.0.0.1:{smtp.port}", "mail_from": "exports@maple.example"}
        self.channel = {"channels": [{"channel": "email", "addresses": [DESK]}]}

    def submits(self, site: Site, answer: Json, who: str) -> bool:
        tokens = [
            build_reply_link(site.harness.runtime.settings, site.find_notification(each)).token for each in (OWN, OTHER)
        ]
        browser = site.harness.client_with_key(None)
        if not hasattr(self, "form_id"):
            (self.form_id,) = re.findall(r'name="form_id" value="(\w+)"', browser.get(f"/answers/{tokens[0]}").text)
        token = {"own": tokens[0], "foreign": tokens[1]}.get(who) or tokens[0].swapcase()
        sent: httpx.Response = browser.post(f"/answers/{token}", data=answer | {"form_id": self.form_id})
        if who == "foreign":
            assert (sent.status_code, site.count(OTHER)) == (303, 1)
            return False
        return sent.is_redirect


class Mailed(Way):
    """An e-mail, which is always a remark: it names its sender, and the e-mail that it answers."""

    def start(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        smtp = self.opened.enter_context(MailServer())
        self.mailbox = self.opened.enter_context(MailboxServer())
        monkeypatch.setattr(imap_mailbox, "trusted_certificates", lambda: self.mailbox.certificate.trusted)
        self.settings |= {"smtp_url": f"smtp://127.0.0.1:{smtp.port}", "mail_from": "exports@maple.example"}
        self.settings |= {"imap_url": self.mailbox.url()}
        self.channel = {"channels": [{"channel": "email", "addresses": [DESK]}]}

    def says(self, site: Site, answer: Json, who: str) -> bool:
        sender = {"own": DESK, "foreign": CLERK}.get(who, "desk@forger.example")
        ours, text = f"<{site.find_notification(OWN)}@maple.example>", str(answer.get("message", answer["status"]))
        mail = compose(ours, text, sender)
        del mail["Message-ID"]
        mail["Message-ID"] = f"<{answer['id']}@broker.example>"
        if "at" in answer:  # the second e-mail of a thread names the broker's own one, and ours before it
            del mail["In-Reply-To"]
            mail["In-Reply-To"], mail["References"] = "<a-1@broker.example>", f"{ours} <a-1@broker.example>"
        self.mailbox.mails[:] = [KeptMail(mail.as_bytes())]
        mail_replies.read_mailbox(site.harness.runtime)
        return self.mailbox.flags() == [{rb"\Seen"}]


RECORDED, REPEATED, REFUSED = "recorded", "repeated", "refused"
SIGNED: Final = {
    "forged": (REFUSED, "delivered"),
    "foreign": (REFUSED, "delivered"),
    "first": (RECORDED, "accepted"),
    "again": (REPEATED, "accepted"),
    "changed": (REFUSED, "accepted"),
    "earlier": (RECORDED, "accepted"),
    "late": (RECORDED, "query"),
    "purged": (REFUSED, "query"),
}
#: What is typed otherwise into the same form is another answer.
BY_FORM: Final = SIGNED | {"changed": (RECORDED, "accepted"), "purged": (REFUSED, "accepted")}
WAYS: Final[list[tuple[type[Way], dict[str, tuple[str, str]]]]] = [
    (Signed, SIGNED),
    (Queued, SIGNED),
    (Polled, SIGNED | {"foreign": (REFUSED, "received")}),
    (Filed, SIGNED),
    (Portal, BY_FORM),
    (Linked, BY_FORM),
    # A remark proves only that the customs broker has the handoff.
    (
        Mailed,
        {case: (done, "delivered" if state == "delivered" else "received") for case, (done, state) in SIGNED.items()},
    ),
]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Servers of a way, until the test ends."""
    with ExitStack() as stack:
        yield stack


def open_site(way: Way, open_harness: Open) -> Site:
    harness = open_harness(allow_private_destinations=True, delivery_timeout_seconds=20, **way.settings)
    secrets = {}
    for broker, address in ((OWN, DESK), (OTHER, CLERK)):
        new: Json = {"id": broker, "kind": "customs_broker", "name": "Demo Brokers", "live": True} | way.channel
        if new.get("channels", [{}])[0].get("channel") == "email":
            new["channels"] = [{"channel": "email", "addresses": [address]}]
        made = partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
        secrets[broker] = made.secret
    site = Site(harness, secrets)
    for broker in secrets:
        site.hand_off(broker)
    return site


@pytest.mark.parametrize(("kind", "expected"), WAYS, ids=[kind.__name__ for kind, _ in WAYS])
def test_each_way_to_answer_in_each_case(
    kind: type[Way],
    expected: dict[str, tuple[str, str]],
    open_harness: Open,
    opened: ExitStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    way = kind(opened, tmp_path / "partner", monkeypatch)
    site = open_site(way, open_harness)
    revisions, found = [site.exports[OWN]], {}
    accepted = {"id": "a-1", "status": "accepted"}
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    cases: dict[str, tuple[Json, str]] = {
        "forged": (accepted, "forged"),
        "foreign": (accepted, "foreign"),
        "first": (accepted, "own"),
        "again": (accepted, "own"),
        "changed": (accepted | {"message": "In other words."}, "own"),
        "earlier": ({"id": "a-2", "status": "query", "at": an_hour_ago}, "own"),
        "late": ({"id": "a-3", "status": "query"}, "own"),
        "purged": ({"id": "a-4", "status": "query", "message": CANARY}, "own"),
    }
    prepare: dict[str, Callable[[], object]] = {
        "late": lambda: revisions.append(site.amend()),
        "purged": lambda: exports.purge(site.harness.runtime, site.exports[OWN]),
    }
    for case in way.cases:
        if case == "purged":
            with site.harness.runtime.db.read() as session:
                compared = [service.compare_export(session, each) for each in revisions]
            assert [(each.refusal, each.differences) for each in compared] == [(None, [])] * len(revisions)
        prepare.get(case, lambda: None)()
        before = site.count()
        with capture_own_logs() as logs:
            taken = way.says(site, *cases[case])
        assert CANARY not in str(logs)
        is_new = site.count() - before
        found[case] = ({(True, 1): RECORDED, (True, 0): REPEATED, (False, 0): REFUSED}[taken, is_new], site.state())
    assert found == {case: expected[case] for case in way.cases}
