"""A connection test over HTTP: look the name up, connect, check the certificate, and judge what the endpoint says."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from httpcore import ConnectError, ConnectTimeout

from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.core.outbound import ForbiddenDestination, is_public, resolve_allowed, trusted_certificates
from pipeline.deliveries.channels.http_client import HttpSession
from pipeline.deliveries.channels.protocol import StageFailed

_SHOWN_CHARACTERS: Final = 120

#: What to do about an answer to an event that should have been taken, by its status.
_REMEDIES: Final = {
    400: "have it take CloudEvents of types that it does not know with a 2xx",
    404: "check the path of the address",
    405: "have the address take POST",
    410: "have the endpoint exist: a live partner that says 410 is paused",
    413: "have it take bodies of up to 32 MB",
    415: "have it take the content type application/cloudevents+json",
    429: "test again when it has the capacity",
    503: "test again when it has the capacity",
}

#: OpenSSL's reasons to distrust a certificate, and what to do.
_DISTRUSTED: Final = {
    9: "the certificate is not valid yet: check the clocks of both ends",
    10: "renew the certificate",
    18: "have the certificate issued by an authority that everybody trusts",
    19: "have the certificate issued by an authority that everybody trusts",
    20: "have the server send the whole chain of certificates, or one issued by an authority that everybody trusts",
    62: "register the name that the certificate is for, or have one issued for this name",
    64: "register the name that the certificate is for: it is for no bare address",
}


class Probe:
    """The way to the server of a URL, gone stage by stage, each within `seconds`; `private` and `ports` as in judged."""

    def __init__(self, url: str, *, private: bool, seconds: float, ports: Collection[int] = ()) -> None:
        self._parts = urlsplit(url)
        self._host = self._parts.hostname or ""
        self._encrypted = self._parts.scheme == "https"
        self._private = private
        self._ports = ports
        self._seconds = seconds
        self._addresses: Sequence[str] = ()
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._socket is not None:
            self._socket.close()

    def stages(self) -> list[tuple[str, Callable[[], str]]]:
        """Return the stages, to be made in this order."""
        return [("resolve", self._resolve), ("connect", self._connect), ("TLS", self._secure)]

    @property
    def _port(self) -> int:
        try:
            return self._parts.port or (443 if self._encrypted else 80)
        except ValueError:
            raise StageFailed("the port of the address is none", "give a port below 65536") from None

    def _resolve(self) -> str:
        try:
            self._addresses = resolve_allowed(
                self._host, self._port, self._seconds, private=self._private, ports=self._ports
            )
        except ForbiddenDestination as error:
            # Where it leads is not said: that would draw the network for whoever asks.
            raise StageFailed(
                str(error),
                "give an address on the internet, at a port of EXPORTS_DESTINATION_PORTS; what is one's own may be reached"
                " with EXPORTS_ALLOW_PRIVATE_DESTINATIONS=true",
            ) from error
        except (ConnectError, ConnectTimeout, UnicodeError) as error:
            reason = "the name is none" if isinstance(error, UnicodeError) else str(error)
            raise StageFailed(f"{self._host}: {reason}", "check the name, and that it is in the public DNS") from error
        first = self._addresses[0]
        return f"{self._host} is {first}" + (
            "" if is_public(first) else ", a private address, which the settings allow"
        )

    def _connect(self) -> str:
        try:
            self._socket = socket.create_connection((self._addresses[0], self._port), self._seconds)
        except OSError as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
            raise StageFailed(
                f"port {self._port}: {why}", "see that the server runs and that its firewall lets this installation in"
            ) from error
        return f"port {self._port} answers"

    def _secure(self) -> str:
        if self._socket is None or not self._encrypted:
            return "skipped: over http anybody on the way can read what is sent; https is better"
        try:
            secured = trusted_certificates().wrap_socket(self._socket, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            remedy = _DISTRUSTED.get(error.verify_code, "have a certificate that everybody trusts")
            raise StageFailed(f"the certificate is not trusted: {error.verify_message}", remedy) from error
        except OSError as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else getattr(error, "reason", None)
            raise StageFailed(
                f"no TLS: {why or error.strerror or type(error).__name__}",
                "see that the port speaks TLS 1.2 or later; for plain HTTP, register an http address",
            ) from error
        self._socket = secured
        certificate = secured.getpeercert() or {}
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        return f"{secured.version()}, the certificate is for {self._host} and ends on {ends:%Y-%m-%d}"


@dataclass(frozen=True)
class ProbeResponse:
    """What the endpoint said to one event; `status` is None where it said nothing, and `summary` is all of it in a sentence."""

    status: int | None
    summary: str

    @property
    def accepted(self) -> bool:
        """Whether that means that it took the event."""
        return self.status is not None and 200 <= self.status < 300


def send_event(session: HttpSession, url: str, body: bytes, headers: Mapping[str, str]) -> ProbeResponse:
    """Post an event and return what the endpoint said."""
    try:
        answer = session.post(url, body, headers)
    except (ChannelUnavailable, ChannelRefused) as error:
        if error.status is None or not error.status.isdigit():
            late = error.status is not None and "Timeout" in error.status
            return ProbeResponse(None, "it did not answer in time" if late else "it broke off without an answer")
        return ProbeResponse(int(error.status), _summarize(error.status, error.answer))
    return ProbeResponse(answer.status, _summarize(str(answer.status), answer.excerpt))


def expect_accepted(response: ProbeResponse, auth_remedy: str) -> str:
    """Return what was said to an event that had to be taken; `auth_remedy` is the remedy where it was not believed.

    Raises StageFailed where it was not taken.
    """
    if response.accepted:
        return response.summary
    raise StageFailed(response.summary, auth_remedy if response.status in (401, 403) else _find_remedy(response))


def expect_refused(response: ProbeResponse, remedy: str) -> str:
    """Return what was said to an event that had to be refused by a 4xx; raises StageFailed with `remedy` else."""
    if response.status is not None and 400 <= response.status < 500:
        return response.summary
    raise StageFailed(response.summary, remedy)


def _find_remedy(response: ProbeResponse) -> str:
    if response.status is None:
        late = "in time" in response.summary
        return (
            "have it answer at once, and do its work afterwards" if late else "have it read all of a request and answer"
        )
    if 300 <= response.status < 400:
        return "register the address that it redirects to: no redirect is followed"
    return _REMEDIES.get(response.status, "its own log says why")


def _summarize(status: str, answer: str | None) -> str:
    return f"it answered {status}" + (f": {answer[:_SHOWN_CHARACTERS]}" if answer else "")
