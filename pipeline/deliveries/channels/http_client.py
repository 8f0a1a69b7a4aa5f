"""HTTP requests of deliveries: no redirects, no proxy, one total deadline, a bounded answer."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpcore

from pipeline.accounts.recipients import no_lease_check
from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.core.outbound import GuardedNetwork, trusted_certificates
from pipeline.deliveries.channels.protocol import describe_exchange, excerpt

MAX_RESPONSE_BYTES = 64 * 1024

_GONE = 410


@dataclass(frozen=True)
class HttpResponse:
    """The endpoint's answer. `excerpt` is the part of it that may be shown, `exchange` describes the request and it."""

    status: int
    body: bytes
    excerpt: str | None = None
    exchange: Mapping[str, Any] | None = None


class HttpSession:
    """Sends requests over one connection that stays open between them. For one thread.

    Answers from a private network are not shown, because a partner could register an address there to read the network.
    `own` addresses are shown: the installation's operator set them.
    """

    def __init__(
        self, network: GuardedNetwork, pool: httpcore.ConnectionPool, seconds: float, *, own: bool = False
    ) -> None:
        self._network = network
        self._pool = pool
        self._seconds = seconds
        self._own = own

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, before_send: Callable[[], None] = no_lease_check
    ) -> HttpResponse:
        """Post `body` and return the answer if its status is 2xx. If the answer's body breaks off, the rest is missing.

        `before_send` is called when connected, just before the first byte of the request; its errors pass through.
        Raises ChannelRefused for 410, ChannelUnavailable for every other failure, both with the endpoint's answer.
        """
        return self._request("POST", url, dict(headers) | {"content-length": str(len(body))}, body, before_send)

    def get(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        """Get the URL and return the answer. Raises the same errors as `post`."""
        return self._request("GET", url, headers, None, no_lease_check)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, before_send: Callable[[], None]
    ) -> HttpResponse:
        def follow(step: str, _: Mapping[str, object]) -> None:
            if step.endswith(".send_request_headers.started"):
                before_send()

        self._network.start_deadline(self._seconds)
        sent = {"host": urlsplit(url).netloc.rpartition("@")[2], "accept-encoding": "identity", **headers}
        try:
            with self._pool.stream(
                method, url, headers=list(sent.items()), content=body, extensions={"trace": follow}
            ) as response:
                beginning = _read_beginning(response)
                names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                shown = names if self._may_show else {}
                answer = HttpResponse(
                    response.status,
                    beginning,
                    excerpt(beginning) if self._may_show else None,
                    describe_exchange(method, url, sent, shown),
                )
        except (
            httpcore.TimeoutException,
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            OSError,
            UnicodeError,
            ValueError,
        ) as error:
            name = type(error).__name__
            # The error quotes answers that are not HTTP.
            raise ChannelUnavailable(
                f"{name}: {error}" if self._may_show else name,
                status=name,
                exchange=describe_exchange(method, url, sent),
            ) from error
        if 200 <= answer.status < 300:
            return answer
        if answer.status == _GONE:
            raise ChannelRefused(
                "the endpoint answered 410 Gone",
                status="410",
                answer=answer.excerpt,
                gone=True,
                exchange=answer.exchange,
            )
        raise ChannelUnavailable(
            f"the endpoint answered {answer.status}",
            status=str(answer.status),
            answer=answer.excerpt,
            exchange=answer.exchange,
            retry_after_seconds=_parse_retry_after(names.get("retry-after")) if answer.status in (429, 503) else None,
        )

    @property
    def _may_show(self) -> bool:
        return self._own or not self._network.is_internal


@contextmanager
def open_http_session(
    *, private: bool, seconds: float, ports: Collection[int] = (), own: bool = False
) -> Iterator[HttpSession]:
    """Open a session that gives each request `seconds` in total. See HttpSession for `own`.

    `private` allows loopback and private addresses, and any port. Otherwise only `ports` are allowed, if any are given.
    """
    network = GuardedNetwork(private=private, ports=ports)
    with httpcore.ConnectionPool(
        ssl_context=trusted_certificates(), max_connections=1, network_backend=network, retries=0
    ) as pool:
        yield HttpSession(network, pool, seconds, own=own)


def _read_beginning(response: httpcore.Response) -> bytes:
    # The status line has decided already. An error in the body after it changes nothing.
    body = b""
    try:
        for part in response.iter_stream():
            body += part
            if len(body) >= MAX_RESPONSE_BYTES:
                break
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        pass
    return body[:MAX_RESPONSE_BYTES]


def _parse_retry_after(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
