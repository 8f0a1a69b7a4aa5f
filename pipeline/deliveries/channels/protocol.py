"""What every channel is: messages go out in order, and each is either taken or an error says why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ExportsError
from pipeline.deliveries.schemas.messages import HandoffAnswer


@dataclass(frozen=True)
class Stage:
    """One stage of a connection test: `found` says what there was to see, `remedy` what to do where it did not pass."""

    name: str
    passed: bool
    duration_ms: int
    found: str
    remedy: str | None = None


class StageFailed(ExportsError):
    """What the stage met, as one sentence, and what to do about it."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.remedy = remedy


def run_stages(stages: Iterable[tuple[str, Callable[[], str]]]) -> Iterator[Stage]:
    """Make the stages in order, each a name and a call that returns what it found, and yield each as it ends.

    A stage fails by raising StageFailed; whatever else it raises counts as a failure too. Nothing follows a failure.
    """
    for name, run_stage in stages:
        began = time.monotonic()
        failure: StageFailed | None = None
        found = ""
        try:
            found = run_stage()
        except StageFailed as failed:
            failure = failed
        except Exception as error:  # noqa: BLE001 - a partner's end may make any library trip over anything
            sentence = str(error).splitlines()[0] if isinstance(error, ExportsError) and str(error) else ""
            failure = StageFailed(
                sentence or f"{type(error).__name__} in the stage {name}",
                "check the partner's end, then run the test again",
            )
        took = round((time.monotonic() - began) * 1000)
        if failure is not None:
            yield Stage(name, passed=False, duration_ms=took, found=str(failure), remedy=failure.remedy)
            return
        yield Stage(name, passed=True, duration_ms=took, found=found)


#: How much of an endpoint's answer is kept with the attempt.
ANSWER_CHARACTERS = 500


@dataclass(frozen=True)
class Attachment:
    """A document that goes with a message; `name` is its path below the message's own folder, such as CP-1/invoice.pdf.

    `read` fetches its bytes, whose length and SHA-256 (hex) are `size` and `sha256`, and raises StoreUnavailable.
    `download_url` is a link of the recipient's own, for e-mails that it does not fit into.
    """

    name: str
    media_type: str
    size: int
    sha256: str
    download_url: str
    read: Callable[[], bytes] = field(repr=False)


@dataclass(frozen=True)
class EmailBody:
    """A message as people read it."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class OutgoingMessage:
    """One notification, ready to go: `body` is its CloudEvent, the same bytes on every try and every channel."""

    id: str
    type: str
    routing_key: str
    body: bytes
    export_id: str = ""
    attachments: Sequence[Attachment] = ()  # for the channels that carry documents themselves
    email_body: EmailBody | None = None  # for the channels that people read


@dataclass(frozen=True)
class DeliveryReceipt:
    """That the recipient's end took a message: what it said, and the customs broker's answer where it gave one at once."""

    status: str
    answer: str | None = None
    handoff: HandoffAnswer | None = None


class Channel(Protocol):
    """One kind of endpoint: a file in this folder, and a row in pipeline/accounts/schemas.py.

    The row is the endpoint's schema: its name, which is the file's too, and what callers may set. The file opens it by `CHANNEL`.
    """

    #: Whether it brings documents along; the others tell where they are.
    carries_documents: bool
    #: Whether people read it, so that each message needs an e-mail.
    read_by_people: bool
    #: Whether its server is the installation's, one for all partners, so that one partner's failure says nothing of it.
    shared: bool

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Send the messages in order and yield a receipt for each as it is taken.

        Raises ChannelUnavailable or ChannelRefused at the first that is not taken, or Fenced at the first that is no
        longer the caller's to send: nothing after it was sent.
        Each message has the settings' total time to be taken in.
        """
        ...

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        """Try the endpoint stage by stage, `message` being the test event, and yield each stage as it ends.

        The first that does not pass is the last. Raises ChannelRefused where what was registered cannot be used.
        """
        ...


#: How a channel's file opens it.
ChannelFactory = Callable[[Settings], Channel]


def excerpt(answer: bytes) -> str | None:
    """Return the beginning of an answer as printable text; None of an empty one."""
    text = answer[:ANSWER_CHARACTERS].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text).strip() or None
