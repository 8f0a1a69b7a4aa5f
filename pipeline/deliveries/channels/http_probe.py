"""Connection tests over HTTP: resolve the name, connect, check the certificate, and check the endpoint's answers."""

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
from pipeline.core.outbound import ForbiddenDestination, describe_address, resolve_allowed, trusted_certificates
from pipeline.deliveries.channels.http_client import HttpSession
from pipeline.deliveries.channels.protocol import StageFailed

_SHOWN_CHARACTERS: Final = 120

#: What to do if the endpoint did not take a valid event, by status.
_REMEDIES: Final = {
    400: "make it answer 2xx to CloudEvents of unknown types",
    404: "check the path of the address",
    405: "make the address accept POST",
    410: "make the endpoint exist: a live partner that answers 410 is paused",
    413: "make it accept bodies of up to 32 MB",
    415: "make it accept the content type application/cloudevents+json",
    429: "test again when it has capacity",
    503: "test again when it has capacity",
}

#: OpenSSL's codes of untrusted certificates, and what to do.
_DISTRUSTED: Final = {
    9: "the certificate is not valid yet: check the clocks on both sides",
    10: "renew the certificate",
    18: "use a certificate from a public authority",
    19: "use a certificate from a public authority",
    20: "make the server send the whole certificate chain, or use a certificate from a public authority",
    62: "register the certificate's host name, or get a certificate for this name",
    64: "register the certificate's host name: it is not valid for an IP address",
}


class Probe:
    """Connects to the server of a URL in stages of `seconds` each. `private` and `ports` as in `resolve_allowed`."""

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
        """Return the stages, in the order to run them."""
        return [("resolve", self._resolve), ("connect", self._connect), ("TLS", self._secure)]

    @property
    def _port(self) -> int:
        try:
            return self._parts.port or (443 if self._encrypted else 80)
        except ValueError:
            raise StageFailed("the port of the address is not valid", "give a port below 65536") from None

    def _resolve(self) -> str:
        try:
            self._addresses = resolve_allowed(
                self._host, self._port, self._seconds, private=self._private, ports=self._ports
            )
        except ForbiddenDestination as error:
            # The resolved address is not shown, because that would reveal the private network to the caller.
            raise StageFailed(
                str(error),
                "give a public address with a port of EXPORTS_DESTINATION_PORTS; private addresses are only allowed"
                " with EXPORTS_ALLOW_PRIVATE_DESTINATIONS=true",
            ) from error
        except (ConnectError, ConnectTimeout, UnicodeError) as error:
            reason = "the name is not valid" if isinstance(error, UnicodeError) else str(error)
            raise StageFailed(f"{self._host}: {reason}", "check the name, and that public DNS has it") from error
        return describe_address(self._host, self._addresses[0])

    def _connect(self) -> str:
        try:
            self._socket = socket.create_connection((self._addresses[0], self._port), self._seconds)
        except OSError as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
            raise StageFailed(
                f"port {self._port}: {why}", "check that the server runs and that its firewall allows this installation"
            ) from error
        return f"port {self._port} answers"

    def _secure(self) -> str:
        if self._socket is None or not self._encrypted:
            return "skipped: an http address is not encrypted; use https"
        try:
            secured = trusted_certificates().wrap_socket(self._socket, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            remedy = _DISTRUSTED.get(error.verify_code, "use a certificate from a public authority")
            raise StageFailed(f"the certificate is not trusted: {error.verify_message}", remedy) from error
        except OSError as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else getattr(error, "reason", None)
            raise StageFailed(
                f"no TLS: {why or error.strerror or type(error).__name__}",
                "check that the port supports TLS 1.2 or later; for plain HTTP, register an http address",
            ) from error
        self._socket = secured
        certificate = secured.getpeercert() or {}
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        return f"{secured.version()}, the certificate is for {self._host} and ends on {ends:%Y-%m-%d}"


@dataclass(frozen=True)
class ProbeResponse:
    """The endpoint's answer to one event. `status` is None if it did not answer; `summary` is one sentence."""

    status: int | None
    summary: str

    @property
    def accepted(self) -> bool:
        """Whether the endpoint took the event."""
        return self.status is not None and 200 <= self.status < 300


def send_event(session: HttpSession, url: str, body: bytes, headers: Mapping[str, str]) -> ProbeResponse:
    """Post an event and return the endpoint's answer."""
    try:
        answer = session.post(url, body, headers)
    except (ChannelUnavailable, ChannelRefused) as error:
        if error.status is None or not error.status.isdigit():
            late = error.status is not None and "Timeout" in error.status
            return ProbeResponse(None, "it did not answer in time" if late else "it broke off without an answer")
        return ProbeResponse(int(error.status), _summarize(error.status, error.answer))
    return ProbeResponse(answer.status, _summarize(str(answer.status), answer.excerpt))


def expect_accepted(response: ProbeResponse, auth_remedy: str) -> str:
    """Return the answer to an event that the endpoint must take. `auth_remedy` is the remedy for 401 and 403.

    Raises StageFailed if the endpoint did not take it.
    """
    if response.accepted:
        return response.summary
    raise StageFailed(response.summary, auth_remedy if response.status in (401, 403) else _find_remedy(response))


def expect_refused(response: ProbeResponse, remedy: str) -> str:
    """Return the answer to an event that must be refused with a 4xx. Otherwise raises StageFailed with `remedy`."""
    if response.status is not None and 400 <= response.status < 500:
        return response.summary
    raise StageFailed(response.summary, remedy)


def _find_remedy(response: ProbeResponse) -> str:
    if response.status is None:
        late = "in time" in response.summary
        return "make it answer first and work afterwards" if late else "make it read the whole request and answer"
    if 300 <= response.status < 400:
        return "register the address that it redirects to: redirects are not followed"
    return _REMEDIES.get(response.status, "look into its log")


def _summarize(status: str, answer: str | None) -> str:
    return f"it answered {status}" + (f": {answer[:_SHOWN_CHARACTERS]}" if answer else "")
