"""The interface of channels: messages are sent in order, and each one is taken or an error says why not."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from config.redaction import hide_secrets
from config.settings import Settings
from pipeline.accounts.recipients import SealedTarget, Target
from pipeline.core import tracing
from pipeline.core.errors import ExportsError
from pipeline.core.trace_context import TraceContext
from pipeline.deliveries.schemas.answers import HandoffAnswer


@dataclass(frozen=True)
class Stage:
    """One stage of a connection test. `found` says what it found, `remedy` what to do if it failed."""

    name: str
    passed: bool
    duration_ms: int
    found: str
    remedy: str | None = None


class StageFailed(ExportsError):
    """A stage failed: what it found, in one sentence, and what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.remedy = remedy


def run_stages(stages: Iterable[tuple[str, Callable[[], str]]]) -> Iterator[Stage]:
    """Run the stages in order, each a name and a call that returns what it found. Yield each result as it ends.

    A stage fails by raising StageFailed or any other error. The first failure is the last stage.
    """
    for name, run_stage in stages:
        began = time.monotonic()
        failure: StageFailed | None = None
        found = ""
        try:
            found = run_stage()
        except StageFailed as failed:
            failure = failed
        except Exception as error:  # noqa: BLE001 - a partner's server can cause any error in the libraries
            sentence = str(error).splitlines()[0] if isinstance(error, ExportsError) and str(error) else ""
            failure = StageFailed(
                sentence or f"{type(error).__name__} in the stage {name}",
                "check the partner's server, then run the test again",
            )
        took = round((time.monotonic() - began) * 1000)
        if failure is not None:
            yield Stage(name, passed=False, duration_ms=took, found=str(failure), remedy=failure.remedy)
            return
        yield Stage(name, passed=True, duration_ms=took, found=found)


#: The part of an endpoint's answer that is stored with the attempt.
ANSWER_CHARACTERS = 500


@dataclass(frozen=True)
class Attachment:
    """A document of a message. `name` is its path below the message's folder, for example CP-1/invoice.pdf.

    `read` fetches its bytes and raises StoreUnavailable. `size` and `sha256` (hex) describe them. `download_url` is the
    recipient's link, for e-mails that the document does not fit into.
    """

    name: str
    media_type: str
    size: int
    sha256: str
    download_url: str
    read: Callable[[], bytes] = field(repr=False)


@dataclass(frozen=True)
class EmailBody:
    """A message as readable text."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class OutgoingMessage:
    """One notification, ready to send. `body` is its CloudEvent, the same bytes on every attempt and channel."""

    id: str
    type: str
    routing_key: str
    body: bytes
    export_id: str = ""  # empty in a message about a registered plan
    attachments: Sequence[Attachment] = ()  # for channels that carry documents
    email_body: EmailBody | None = None  # for channels that people read
    trace: TraceContext | None = None
    plan_id: str | None = None  # of a message about a registered plan
    thread: str | None = None  # what begins the thread of its e-mail: the id of the handoff, or of the export or plan

    @property
    def trace_headers(self) -> dict[str, str]:
        """The headers by which HTTP channels name the trace: of the attempt if it is traced, else of the export."""
        trace = tracing.current_trace(self.trace)
        return {} if trace is None else trace.attributes


@dataclass(frozen=True)
class DeliveryReceipt:
    """Proof that the recipient took a message: its reply, and the customs broker's answer if it came at once.

    `exchange` is what `describe_exchange` returns, None if only the address is known.
    """

    status: str
    answer: str | None = None
    handoff: HandoffAnswer | None = None
    exchange: Mapping[str, Any] | None = None


class Channel(Protocol):
    """One kind of endpoint: a file in this folder, and a schema and a `ChannelKind` in pipeline/accounts/channels.py.

    The schema defines the channel's name, which is also the file's, and its settings. The file defines `CHANNEL`.
    """

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Send the messages in order and yield a receipt for each one that is taken.

        Raises ChannelUnavailable or ChannelRefused at the first message that is not taken. Raises Fenced at the first
        message whose lease the caller has lost. No later message is sent then. Each message may take the total time of
        the settings.
        """
        ...

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Test the endpoint stage by stage, with `message` as the test event. Yield each stage as it ends.

        The first failed stage is the last. Raises ChannelRefused if the registered endpoint cannot be used.
        """
        ...


@dataclass(frozen=True)
class AnswerFile:
    """A file with an answer: its bytes, or why it cannot be read."""

    name: str
    body: bytes = b""
    problem: str | None = None


@dataclass(frozen=True)
class AnswerListing:
    """The files to read, the oldest first, and the number of ignored entries."""

    names: list[str]
    ignored: int


class Answers(Protocol):
    """The files with answers on a partner's server."""

    def list_files(self) -> AnswerListing:
        """Return what the server has now."""
        ...

    def read_file(self, name: str) -> AnswerFile | None:
        """Return the file, or None if it is gone."""
        ...

    def read_attachment(self, name: str) -> AnswerFile | None:
        """Return a file beside an answer that names it, or None if it is not there."""
        ...

    def move_to_done(self, name: str) -> None:
        """Move a recorded file away."""
        ...

    def move_to_refused(self, name: str, reason: str) -> None:
        """Move a refused file away, and write the reason beside it."""
        ...


@runtime_checkable
class PollableChannel(Channel, Protocol):
    """A channel whose `ChannelKind` is pollable."""

    def open_answers(self, target: Target) -> AbstractContextManager[Answers]:
        """Open the partner's answers; raises ChannelUnavailable, or ChannelRefused if the endpoint cannot be used."""
        ...


#: The type of `CHANNEL` in a channel's file.
ChannelFactory = Callable[[Settings], Channel]


#: The headers whose values are stored with an attempt. Of others, only the names of those that were sent are.
_SHOWN_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "allow",
        "content-length",
        "content-type",
        "date",
        "host",
        "idempotency-key",
        "request-id",
        "retry-after",
        "server",
        "traceparent",
        "via",
        "webhook-id",
        "webhook-timestamp",
        "www-authenticate",
        "x-request-id",
    }
)
_HEADER_CHARACTERS: Final = 200
_ADDRESS_CHARACTERS: Final = 500
_HIDDEN: Final = "[hidden]"


def describe_exchange(
    method: str, address: str, sent: Mapping[str, str] | None = None, received: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what is stored of a request and its response with an attempt: at most some kilobytes, and no secret.

    `sent` and `received` are headers, their names in lower case. Of the address, the user and the values of the query are
    hidden.
    """
    described: dict[str, Any] = {"method": method, "address": _hide_query(address)[:_ADDRESS_CHARACTERS]}
    if sent is not None:
        described["sent"] = {
            name: value[:_HEADER_CHARACTERS] if name in _SHOWN_HEADERS else _HIDDEN for name, value in sent.items()
        }
    if received is not None:
        described["received"] = {
            name: _replace_unprintable(hide_secrets(value))[:_HEADER_CHARACTERS]
            for name, value in received.items()
            if name in _SHOWN_HEADERS
        }
    return described


def describe_target(target: SealedTarget) -> dict[str, Any] | None:
    """Return what is known of a request whose channel did not describe it; None if the target has no address."""
    endpoint = {} if target.endpoint is None else target.endpoint.endpoint
    address = endpoint.get("address") or ", ".join(endpoint.get("addresses", ()))
    return describe_exchange(target.channel, address) if address else None


def _hide_query(address: str) -> str:
    beginning, mark, query = address.partition("?")
    names = "&".join(f"{pair.partition('=')[0]}={_HIDDEN}" for pair in query.split("&"))
    return hide_secrets(beginning) + (mark + names if mark else "")


def excerpt(answer: bytes) -> str | None:
    """Return the beginning of an answer as printable text, or None if it is empty."""
    text = answer[:ANSWER_CHARACTERS].decode("utf-8", "replace")
    return _replace_unprintable(text).strip() or None


def _replace_unprintable(text: str) -> str:
    # PostgreSQL stores no zero character.
    return "".join(each if each.isprintable() else " " for each in text)
