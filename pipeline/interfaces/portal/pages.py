"""The base of every page of the portal: the visit and the form that a route receives."""

import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.accounts import partners
from pipeline.accounts.portal_links import PortalVisitor, record_link_use
from pipeline.accounts.schemas import PartnerView
from pipeline.core import tenancy
from pipeline.core.errors import ForeignForm, NotFound, Refused
from pipeline.core.runtime import Runtime
from pipeline.core.signed_text import Signatures
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.submissions.attachments import MAX_BYTES
from pipeline.exports.audit_trail import Action, record_act
from pipeline.interfaces.api.dependencies import get_publisher, get_runtime, rate_limited
from pipeline.interfaces.api.places import COUNT, PERSON_PART
from pipeline.interfaces.pages.pages import Form, SignedOut, describe_refusal, read_fields, refusable_page
from pipeline.interfaces.pages.upload import Upload, read_upload
from pipeline.interfaces.portal import session
from pipeline.interfaces.portal.views import build_nav
from pipeline.workflow.steps import stream_tasks

#: The page that begins a session.
OPEN: Final = "/portal/open"

PAGE_SIZE: Final = 50

_SMALL_FORM: Final = 64 * 1024


@dataclass(frozen=True)
class PortalVisit:
    """A request by the holder of a portal link. Every query that serves it is by the visitor's account and partner."""

    request: Request
    visitor: PortalVisitor
    csrf_tokens: Signatures

    @property
    def runtime(self) -> Runtime:
        """The runtime of the process."""
        return get_runtime(self.request)

    def load_partner(self) -> PartnerView:
        """Return the visitor's partner."""
        return partners.get_partner(self.runtime, self.visitor.account_id, self.visitor.partner_id)

    def publish(self, streams: Sequence[DeliveryStream]) -> None:
        """Schedule the sending of streams and return at once."""
        get_publisher(self.request).publish(stream_tasks(streams))

    def record(self, action: Action, subject: str, detail: Mapping[str, Any] | None = None) -> None:
        """Write what the visitor just did to the account's audit trail."""
        with self.runtime.db.write() as transaction:
            record_act(transaction, self.visitor.account_id, self.visitor.actor, action, subject, detail)

    def page(self, template: str, status: int = 200, *, refused: Refused | None = None, **values: object) -> Response:
        """Return a page of the portal, which says what was `refused`."""
        partner = self.load_partner()
        base: dict[str, object] = {
            "partner": partner,
            "csrf_token": self.csrf_tokens.newest,
            **self._name_page(),
            "nav": build_nav(partner, self.request.url.path),
        }
        return refusable_page(template, status, refused, base | values)

    def _name_page(self) -> dict[str, str | None]:
        """Return who a browser keeps a form for that was not sent, and where it finds the page again."""
        url, owner = self.request.url, f"{self.visitor.account_id}\n{self.visitor.partner_id}"
        address = f"{url.path}?{url.query}" if url.query else url.path
        return {
            # A new link of the same partner is the same holder; the page does not name the account.
            "kept_for": hashlib.sha256(owner.encode()).hexdigest()[:16],
            "typed_at": address if self.request.method == "GET" else None,
        }

    def refusal(self, refused: Refused) -> Response:
        """Return a page that only says why the request was refused."""
        return self.page("portal/refused.html", refused=refused, title=refused.title, message=describe_refusal(refused))


async def open_portal_visit(request: Request) -> PortalVisit:
    """Return the visit of the link's holder. Raises SignedOut without a session, and RateLimited."""
    runtime, cookie = get_runtime(request), request.cookies.get(session.COOKIE, "")
    try:
        visitor = await run_in_threadpool(session.authenticate, runtime, cookie)
    except NotFound as ended:
        raise SignedOut(OPEN) from ended
    structlog.contextvars.bind_contextvars(account_id=visitor.account_id, portal_link_id=visitor.link_id)
    # Set here, in the context of the request: a thread's own context ends with its call.
    tenancy.set_account(visitor.account_id)
    visit = PortalVisit(request, visitor, session.sign_form(runtime, cookie))
    request.state.visit = visit
    keys = request.app.state.keys
    _, wait = keys.take_token(visitor.link_id)
    if wait:
        raise rate_limited(f"a link may make {keys.per_minute} requests in a minute", wait)
    request.scope[COUNT](visitor.account_id, visitor.actor, PERSON_PART)
    if keys.should_touch(visitor.link_id):
        await run_in_threadpool(record_link_use, runtime, visitor)
    return visit


Holder = Annotated[PortalVisit, Depends(open_portal_visit)]


def limit_portal_form(max_bytes: int) -> Callable[[Request, PortalVisit], Coroutine[Any, Any, Form]]:
    """Return the dependency that reads a form of at most `max_bytes` and checks its CSRF token."""

    async def read_form(request: Request, visit: Holder) -> Form:
        form = await read_fields(request, max_bytes)
        if visit.csrf_tokens.find_key(form.get("csrf_token")) is None:
            raise ForeignForm("this form does not belong to your session; load the page again")
        return form

    return read_form


async def _read_answer(request: Request, visit: Holder) -> Upload:
    def read_plain(request: Request) -> Awaitable[Form]:
        return read_fields(request, _SMALL_FORM)

    return await read_upload(request, MAX_BYTES, visit.csrf_tokens, read_plain)


PortalAnswer = Annotated[Upload, Depends(_read_answer)]
PortalFields = Annotated[Form, Depends(limit_portal_form(_SMALL_FORM))]
