"""`exports listen`: forwards new messages to a receiver on this machine, signed as the service signs them."""

import json
import secrets
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import httpcore
import typer
from rich.markup import escape

from pipeline.accounts.schemas import DeliveryView
from pipeline.client import ApiProblem, ApiUnreachable, Exports
from pipeline.deliveries.schemas.cloudevent import CONTENT_TYPE
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    format_problem,
    print_json,
    report_errors,
    stderr_console,
    stdout_console,
)
from pipeline.interfaces.event_text import BAD, GOOD

T = TypeVar("T")

app = typer.Typer()

#: Pauses before the retries of a message that the receiver did not accept; those of the service are longer.
RETRY_PAUSES_SECONDS: Final = (1, 5, 15)
_POLL_SECONDS: Final = 1.0
_RECEIVER_SECONDS: Final = 30.0
_PAGE_SIZE: Final = 50
#: A delivery can become visible after a newer one, if its transaction took longer.
_OVERLAP: Final = timedelta(seconds=60)
_SECRET_BYTES: Final = 32
_TRANSIENT_STATUSES: Final = frozenset({429, 500, 502, 503, 504})


@app.command(epilog="Example: exports listen --forward-to http://localhost:3000/events --last 5")
@report_errors
def listen(
    forward_to: Annotated[
        str, typer.Option("--forward-to", metavar="URL", help="Your receiver, such as http://localhost:3000/events.")
    ],
    partner: Annotated[
        str | None, typer.Option("--partner", metavar="ID", help="Only messages to this partner.")
    ] = None,
    message: Annotated[
        list[MessageType] | None, typer.Option("--type", help="Only this type of message; repeatable.")
    ] = None,
    last: Annotated[int, typer.Option(min=0, metavar="N", help="First forward the newest N messages.")] = 0,
    secret: Annotated[
        str | None, typer.Option(metavar="SECRET", help="Sign with this secret. [default: a new one, printed]")
    ] = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Forward new messages to your receiver, signed like real ones; the real deliveries do not change. Ctrl-C ends it."""
    signing_secret = secret or f"whsec_{b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
    _check_receiver(forward_to)
    _check_secret(signing_secret)
    with connect(api_url, api_key) as api, httpcore.ConnectionPool() as pool:
        if partner is not None:
            api.partner(partner)  # a typo must not look like a partner without messages
        deliveries = NewDeliveries(api, partner, {*map(str, message or MessageType)})
        deliveries.skip_existing()
        waiting = deliveries.find_existing(last)
        _print_start(forward_to, signing_secret, as_json=as_json)
        forwarder = _Forwarder(pool, forward_to, signing_secret, as_json=as_json)
        while True:
            for delivery in waiting:
                _forward(api, forwarder, delivery)
            time.sleep(_POLL_SECONDS)
            waiting = _await_answer(deliveries.find)


class NewDeliveries:
    """Finds the deliveries that appeared since the last look; a message on several channels of a partner counts once."""

    def __init__(self, api: Exports, partner: str | None, message_types: set[str]) -> None:
        self._api = api
        self._partner = partner
        self._message_types = message_types
        self._horizon: datetime | None = None
        self._seen: set[tuple[str, str]] = set()

    def skip_existing(self) -> None:
        """Take what exists as seen, so that `find` returns only newer deliveries."""
        for row in self._api.deliveries(page_size=1):
            self._horizon = row.created_at - _OVERLAP
            break
        self.find()

    def find_existing(self, count: int) -> list[DeliveryView]:
        """Return the newest `count` deliveries, oldest first."""
        found: dict[tuple[str, str], DeliveryView] = {}
        rows = self._api.deliveries(partner=self._partner, page_size=_PAGE_SIZE) if count else iter(())
        for row in rows:
            if self._is_wanted(row):
                found.setdefault(_identify(row), row)
            if len(found) == count:
                break
        return [*reversed(found.values())]

    def find(self) -> list[DeliveryView]:
        """Return the deliveries that appeared since the last look, oldest first."""
        listed: list[DeliveryView] = []
        # Of all partners: the API lists those of one partner by export, so that a new one can follow older ones.
        for row in self._api.deliveries(page_size=_PAGE_SIZE):
            if self._horizon is not None and row.created_at < self._horizon:
                break
            listed.append(row)
        new = {_identify(row): row for row in listed if _identify(row) not in self._seen}
        # Only now: a list that breaks off would lose the deliveries that were read before.
        self._seen = {_identify(row) for row in listed}
        self._horizon = max((row.created_at - _OVERLAP for row in listed), default=self._horizon)
        return [row for row in reversed(new.values()) if self._is_wanted(row)]

    def _is_wanted(self, row: DeliveryView) -> bool:
        return row.event_type in self._message_types and self._partner in (None, row.partner_id)


def _identify(row: DeliveryView) -> tuple[str, str]:
    return row.notification_id, row.partner_id


@dataclass(frozen=True)
class _Attempt:
    """One request to the receiver: its status, or why there is none, and when it is repeated."""

    status: int | None
    error: str | None
    duration_ms: int
    retry_in_seconds: int | None

    @property
    def is_accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class _Forwarder:
    """Posts messages to the receiver and prints each attempt."""

    pool: httpcore.ConnectionPool
    url: str
    secret: str
    as_json: bool

    def forward(self, delivery: DeliveryView, body: bytes) -> None:
        """Post a message until the receiver accepts it, or after the last retry."""
        for pause in (*RETRY_PAUSES_SECONDS, None):
            attempt = self._post(delivery.notification_id, body, pause)
            self._print_attempt(delivery, attempt)
            if attempt.is_accepted or pause is None:
                return
            time.sleep(pause)

    def _post(self, message_id: str, body: bytes, retry_pause: int | None) -> _Attempt:
        event = json.loads(body)
        trace = {name: event[name] for name in ("traceparent", "tracestate") if name in event}
        headers = {"content-type": CONTENT_TYPE} | trace | build_signature_headers(message_id, body, self.secret)
        began = time.monotonic_ns()
        status, error = None, None
        try:
            response = self.pool.request(
                "POST",
                self.url,
                headers={"host": urlsplit(self.url).netloc, "content-length": str(len(body)), **headers},
                content=body,
                extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), _RECEIVER_SECONDS)},
            )
            status = response.status
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as failed:
            error = str(failed) or type(failed).__name__
        attempt = _Attempt(status, error, (time.monotonic_ns() - began) // 1_000_000, retry_pause)
        return attempt if not attempt.is_accepted else _Attempt(status, None, attempt.duration_ms, None)

    def _print_attempt(self, delivery: DeliveryView, attempt: _Attempt) -> None:
        if self.as_json:
            _print_line(
                id=delivery.notification_id,
                type=delivery.event_type,
                partnerId=delivery.partner_id,
                deliveryId=delivery.id,
                exportId=delivery.export_id,
                planId=delivery.plan_id,
                status=attempt.status,
                error=attempt.error,
                durationMs=attempt.duration_ms,
                retryInSeconds=attempt.retry_in_seconds,
            )
            return
        mark = f"[green]{GOOD}[/]" if attempt.is_accepted else f"[bold red]{BAD}[/]"
        outcome = f"{attempt.status}" if attempt.error is None else f"no response: {escape(attempt.error)}"
        retry = f", retry in {attempt.retry_in_seconds} s" if attempt.retry_in_seconds else ""
        stdout_console().print(
            f"{mark} [bold]{outcome}[/]{retry}  {escape(delivery.event_type)}  to {escape(delivery.partner_id)}"
            f"  [dim]{escape(delivery.notification_id)}  {attempt.duration_ms} ms[/]",
            soft_wrap=True,
        )


def _forward(api: Exports, forwarder: _Forwarder, delivery: DeliveryView) -> None:
    """Forward one message. One whose payload may not be read, such as a purged one, is reported and left out."""
    try:
        body = _await_answer(lambda: api.payload(delivery.id))
    except ApiProblem as error:
        problem = error.problem.model_dump(by_alias=True, exclude_none=True)
        for line in format_problem(problem):
            stderr_console().print(line, soft_wrap=True)
        return
    forwarder.forward(delivery, body)


def _await_answer(call: Callable[[], T]) -> T:
    """Return what the call returns, however long the service does not respond: it may be restarting."""
    while True:
        try:
            return call()
        except ApiUnreachable as error:
            reason = str(error)
        except ApiProblem as error:
            if error.problem.status not in _TRANSIENT_STATUSES:
                raise
            reason = error.problem.message
        stderr_console().print(f"[yellow]{escape(reason)}; still listening[/]", soft_wrap=True)
        time.sleep(_POLL_SECONDS)


def _check_receiver(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        valid = valid and url.isascii() and url.isprintable() and " " not in url and parts.username is None
    except ValueError:
        valid = False
    if not valid:
        raise Failure(
            "--forward-to must be the address of your receiver",
            code=ExitCode.USAGE,
            remedy="Give a URL without a user, such as http://localhost:3000/events.",
        )


def _check_secret(secret: str) -> None:
    try:
        build_signature_headers("", b"", secret)
    except Exception as error:
        # The library raises various errors for malformed input.
        remedy = "Give the secret that your receiver has, or leave --secret out."
        raise Failure("--secret must be whsec_ and base64", code=ExitCode.USAGE, remedy=remedy) from error


def _print_start(url: str, secret: str, *, as_json: bool) -> None:
    if as_json:
        _print_line(forwardTo=url, secret=secret)
        return
    console = stdout_console()
    console.print(f"[green]{GOOD}[/] forwarding to [bold]{escape(url)}[/]; Ctrl-C ends it", soft_wrap=True)
    console.print(f"  signing secret {escape(secret)}", soft_wrap=True)


def _print_line(**members: Any) -> None:
    print_json(json.dumps(members, ensure_ascii=False))
