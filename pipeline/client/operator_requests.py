"""The calls about partners, their messages and answers, the account and its key, waivers, the tariff, and the service's health."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from pipeline.accounts.schemas import (
    CreatedPartner,
    DeliveryPage,
    DeliveryView,
    LeadChanges,
    LeadsView,
    NewPartner,
    OwnKey,
    PartnerChanges,
    PartnerList,
    PartnerTested,
    PartnerView,
    PrintSettingsChanges,
    PrintSettingsView,
    RotatedSecret,
    SecretRotation,
)
from pipeline.client.export_requests import export_path
from pipeline.client.request import Call, ResultPage, RetryWhen, encode_segment, get, parse_as, to_request_body
from pipeline.customs.schemas import LineDecision, NewWaiver, TariffNumberView, WaiverList, WaiverView
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.views import (
    AcknowledgementReceipt,
    DocumentLinks,
    NotificationTrace,
    ReplayReport,
    ReplayRequest,
    SandboxHandoffView,
    SandboxPage,
)
from pipeline.exports.schemas.account_clock import ClockMove, ClockView
from pipeline.exports.schemas.export import AcknowledgeRequest
from pipeline.ops.schemas import Health, StatsView


def delivery_page(
    *,
    export: str | None = None,
    partner: str | None = None,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Call[DeliveryPage]:
    """Return one page of the delivery log, newest first, after `cursor`."""
    return get(
        "api/deliveries",
        parse_as(DeliveryPage),
        exportId=export,
        partnerId=partner,
        state=state,
        cursor=cursor,
        limit=limit,
    )


def deliveries(
    *, export: str | None = None, partner: str | None = None, state: str | None = None, page_size: int = 200
) -> ResultPage[DeliveryView]:
    """Yield the deliveries, newest first, each with its latest attempts, from all pages."""

    def page_call(cursor: str | None) -> Call[ResultPage[DeliveryView]]:
        call = delivery_page(export=export, partner=partner, state=state, cursor=cursor, limit=page_size)
        return call.map(
            lambda found: ResultPage(found.items, page_call(found.next_cursor) if found.next_cursor else None)
        )

    return ResultPage(next_call=page_call(None))


def delivery(delivery: str) -> Call[DeliveryView]:
    """Return one delivery with its latest attempts."""
    return get(_delivery_path(delivery), parse_as(DeliveryView))


def payload(delivery: str) -> Call[bytes]:
    """Return the message of a delivery: the bytes that the partner receives."""
    return get(f"{_delivery_path(delivery)}/payload", lambda response: response.content)


def trace(message: str) -> Call[NotificationTrace]:
    """Return what became of one message, by its CloudEvent id: each delivery, each attempt, and each response."""
    return get(f"api/notifications/{encode_segment(message)}", parse_as(NotificationTrace))


def document_links(submission: str) -> Call[DocumentLinks]:
    """Return new links to all documents of a handoff; each works without a key for some minutes."""
    path = f"api/broker-submissions/{encode_segment(submission)}/links"
    return Call("POST", path, parse_as(DocumentLinks), retry_when=RetryWhen.ALWAYS)


def resend(delivery: str) -> Call[DeliveryView]:
    """Send a delivered or dead message again, with the same id, or a pending one now; return its delivery."""
    return Call("POST", f"{_delivery_path(delivery)}/resend", parse_as(DeliveryView))


def acknowledge_delivery(delivery: str, note: str | None = None) -> Call[DeliveryView]:
    """Take a dead message about a registered plan from the inbox, with a note; a repeat changes nothing."""
    return Call(
        "POST",
        f"{_delivery_path(delivery)}/acknowledge",
        parse_as(DeliveryView),
        json=to_request_body(AcknowledgeRequest(note=note)),
        retry_when=RetryWhen.ALWAYS,
    )


def reopen_delivery(delivery: str) -> Call[DeliveryView]:
    """Undo the acknowledgement of a dead message about a registered plan."""
    return Call("POST", f"{_delivery_path(delivery)}/reopen", parse_as(DeliveryView))


def replay(partner: str, request: ReplayRequest) -> ResultPage[ReplayReport]:
    """Send a partner's messages of a time span again, one page a call; yield the report of each page."""

    def page_call(page_request: ReplayRequest) -> Call[ResultPage[ReplayReport]]:
        call = Call(
            "POST",
            f"api/partners/{encode_segment(partner)}/replay",
            parse_as(ReplayReport),
            json=to_request_body(page_request),
        )
        return call.map(
            lambda report: ResultPage(
                [report],
                page_call(page_request.model_copy(update={"until": report.until, "after": report.next}))
                if report.next
                else None,
            )
        )

    return ResultPage(next_call=page_call(request))


def acknowledge(submission: str, answer: AcknowledgementBody) -> Call[AcknowledgementReceipt]:
    """Record the customs broker's answer to a handoff, once by its `id`, however often it is sent."""
    path = f"api/broker-submissions/{encode_segment(submission)}/acknowledgements"
    return Call(
        "POST", path, parse_as(AcknowledgementReceipt), json=to_request_body(answer), retry_when=RetryWhen.ALWAYS
    )


def sandbox_answer(export: str, answer: AcknowledgementBody) -> Call[AcknowledgementReceipt]:
    """Let the sandbox broker answer the handoff of a test export now; a repeat with the same id changes nothing."""
    path = f"{export_path(export)}/sandbox-answers"
    return Call(
        "POST", path, parse_as(AcknowledgementReceipt), json=to_request_body(answer), retry_when=RetryWhen.ALWAYS
    )


def sandbox_handoffs(*, page_size: int = 200) -> ResultPage[SandboxHandoffView]:
    """Yield what the built-in sandbox broker received, newest first, from all pages."""

    def page_call(cursor: str | None) -> Call[ResultPage[SandboxHandoffView]]:
        call = get("sandbox/handoffs", parse_as(SandboxPage), cursor=cursor, limit=page_size)
        return call.map(
            lambda found: ResultPage(found.items, page_call(found.next_cursor) if found.next_cursor else None)
        )

    return ResultPage(next_call=page_call(None))


def _delivery_path(delivery: str) -> str:
    return f"api/deliveries/{encode_segment(delivery)}"


#: A connection test covers every endpoint of a partner, each with its own time limit.
_TEST_SECONDS = 120

_parse_partner = parse_as(PartnerView)


def partners(*, page_size: int = 200) -> ResultPage[PartnerView]:
    """Yield the account's partners, by id, from all pages."""

    def page_call(cursor: str | None) -> Call[ResultPage[PartnerView]]:
        call = get("api/partners", parse_as(PartnerList), cursor=cursor, limit=page_size)
        return call.map(
            lambda found: ResultPage(found.items, page_call(found.next_cursor) if found.next_cursor else None)
        )

    return ResultPage(next_call=page_call(None))


def partner(partner: str) -> Call[PartnerView]:
    """Return one partner."""
    return get(_partner_path(partner), _parse_partner)


def create_partner(new: NewPartner) -> Call[CreatedPartner]:
    """Register a partner; only this answer has its signing secret."""
    return Call("POST", "api/partners", parse_as(CreatedPartner), json=to_request_body(new))


def change_partner(partner: str, changes: PartnerChanges) -> Call[PartnerView]:
    """Change the fields that `changes` sets; all others, and the signing secret, stay."""
    return Call(
        "PATCH", _partner_path(partner), _parse_partner, json=to_request_body(changes), retry_when=RetryWhen.ALWAYS
    )


def test_partner(partner: str) -> Call[PartnerTested]:
    """Test every endpoint of a partner in stages; `passed` says whether all passed, and each stage has its remedy."""
    return Call("POST", f"{_partner_path(partner)}/test", parse_as(PartnerTested), extra_seconds=_TEST_SECONDS)


def activate_partner(partner: str) -> Call[PartnerView]:
    """Let live exports reach a partner whose test has passed."""
    return Call("POST", f"{_partner_path(partner)}/activate", _parse_partner)


def rotate_secret(partner: str, *, overlap_hours: int | None = None) -> Call[RotatedSecret]:
    """Give a partner a new signing secret; only this answer has it. The older ones stay valid during the overlap."""
    rotation = SecretRotation() if overlap_hours is None else SecretRotation(overlap_hours=overlap_hours)
    return Call(
        "POST", f"{_partner_path(partner)}/rotate-secret", parse_as(RotatedSecret), json=to_request_body(rotation)
    )


def pause_partner(partner: str) -> Call[PartnerView]:
    """Stop sending to a partner until it is resumed. Pending messages are kept."""
    return Call("POST", f"{_partner_path(partner)}/pause", _parse_partner)


def resume_partner(partner: str) -> Call[PartnerView]:
    """Send a partner its pending and new messages again."""
    return Call("POST", f"{_partner_path(partner)}/resume", _parse_partner)


def _partner_path(partner: str) -> str:
    return f"api/partners/{encode_segment(partner)}"


def whoami() -> Call[OwnKey]:
    """Return the key of this client: its account, mode and roles, and until when it is valid."""
    return get("api/key", parse_as(OwnKey))


def print_settings() -> Call[PrintSettingsView]:
    """Return the languages and the logo that new exports print."""
    return get("api/print-settings", parse_as(PrintSettingsView))


def change_print_settings(changes: PrintSettingsChanges) -> Call[PrintSettingsView]:
    """Change the languages or the logo that new exports print, and return both; `logo=None` removes the logo."""
    return Call(
        "PATCH",
        "api/print-settings",
        parse_as(PrintSettingsView),
        json=to_request_body(changes),
        retry_when=RetryWhen.ALWAYS,
    )


def deadline_leads() -> Call[LeadsView]:
    """Return the account's own leads by mode of transport; None is as the installation's settings say."""
    return get("api/deadlines/leads", parse_as(LeadsView))


def change_deadline_leads(changes: LeadChanges) -> Call[LeadsView]:
    """Replace the account's own leads of each named mode, from the next status of each handoff on, and return all."""
    return Call(
        "PATCH", "api/deadlines/leads", parse_as(LeadsView), json=to_request_body(changes), retry_when=RetryWhen.ALWAYS
    )


def test_clock() -> Call[ClockView]:
    """Return what the account's test clock shows, and what happens next to its open test exports."""
    return get("api/test-clock", parse_as(ClockView))


def move_test_clock(at: datetime) -> Call[ClockView]:
    """Move the test clock ahead to `at`, and return it; a repeat changes nothing. It needs a test key."""
    move = to_request_body(ClockMove(at=at))
    return Call("POST", "api/test-clock", parse_as(ClockView), json=move, retry_when=RetryWhen.ALWAYS)


def reset_test_clock() -> Call[ClockView]:
    """Set the test clock back to the real time, and return it."""
    return Call("DELETE", "api/test-clock", parse_as(ClockView), retry_when=RetryWhen.ALWAYS)


def decide_headings(
    hts_code: str,
    origin: str,
    *,
    on: date | None = None,
    spi: str | None = None,
    net_kg: str | None = None,
    metals: Mapping[str, str] | None = None,
    us_percent: str | None = None,
    metal_country: str | None = None,
    claims: Sequence[str] = (),
) -> Call[LineDecision]:
    """Return the headings that the active customs rules decide for a line, with reasons, open questions and sources.

    `metals` has the weight of each metal in kg, as in `{"steel": "0.8"}`; `claims` are headings that the line carries.
    """
    return get(
        "api/rules/decide",
        parse_as(LineDecision),
        htsCode=hts_code,
        origin=origin,
        on=None if on is None else on.isoformat(),
        spi=spi,
        netKg=net_kg,
        metal=[f"{name}:{weight}" for name, weight in (metals or {}).items()] or None,
        usPercent=us_percent,
        metalCountry=metal_country,
        claim=[*claims] or None,
    )


def waivers() -> Call[Sequence[WaiverView]]:
    """Return the account's waivers, oldest first, including revoked ones."""
    return get("api/waivers", parse_as(WaiverList)).map(lambda found: found.items)


def waive(new: NewWaiver) -> Call[WaiverView]:
    """Accept a warning for the account from now on; blocking findings cannot be waived."""
    return Call("POST", "api/waivers", parse_as(WaiverView), json=to_request_body(new))


def revoke_waiver(waiver: str) -> Call[WaiverView]:
    """End a waiver now; exports accepted under it stay accepted."""
    return Call("DELETE", f"api/waivers/{encode_segment(waiver)}", parse_as(WaiverView))


def tariff_number(number: str, *, on: date | None = None) -> Call[TariffNumberView]:
    """Return a number of the tariff on a day, by default today: units of quantity, rates and footnotes.

    Raises ApiProblem (NOT_FOUND) if no edition of the tariff is in force on that day, or if it does not have the number.
    """
    day = None if on is None else on.isoformat()
    return get(f"api/tariff/{encode_segment(number)}", parse_as(TariffNumberView), on=day)


def health() -> Call[Health]:
    """Return the state of every part of the service."""
    return get("api/system/health", parse_as(Health))


def stats(*, range: str = "24h") -> Call[StatsView]:  # noqa: A002 - the contract's name
    """Return what happened to the account's exports in the `range`: `3h`, `24h`, `7d` or `90d`."""
    return get("api/stats", parse_as(StatsView), range=range)


def readiness() -> Call[None]:
    """Succeed if the service is ready; the call is made once, without retries."""
    return Call("GET", "readyz", lambda _: None, retry_when=RetryWhen.NEVER)
