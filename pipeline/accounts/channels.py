"""The channels: for each one the settings of an endpoint, and one record of what is known of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, get_args

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, model_validator
from pydantic.fields import FieldInfo

from pipeline.exports.schemas.plan import StrictModel

PartnerKind = Literal["customs_broker", "warehouse", "operator", "upstream"]

Url = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s@/?#]+([/?][^\s#]*)?$")]
Mailbox = Annotated[
    str,
    StringConstraints(
        max_length=254, pattern=r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$"
    ),
]
SftpUrl = Annotated[
    str,
    StringConstraints(
        max_length=500,
        pattern=r"^sftp://[A-Za-z0-9._-]{1,64}@(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$",
    ),
]
HostKey = Annotated[
    str,
    StringConstraints(
        max_length=1000,
        pattern=r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|rsa-sha2-(256|512)|ssh-rsa) [A-Za-z0-9+/=]+( .*)?$",
    ),
]


class QueueEndpoint(StrictModel):
    """The queues of the contract. There is nothing to set."""

    channel: Literal["queue"] = "queue"


class WebhookEndpoint(StrictModel):
    """Signed webhooks (Standard Webhooks) to one URL."""

    channel: Literal["webhook"] = "webhook"
    address: Url = Field(description="Where messages are posted")


class EmailEndpoint(StrictModel):
    """E-mail with documents attached, or linked if they are large. For customs brokers and operators."""

    channel: Literal["email"] = "email"
    addresses: list[Mailbox] = Field(
        min_length=1, max_length=10, description="Recipients of each message, all on one e-mail"
    )


class SftpEndpoint(StrictModel):
    """Files on the partner's SFTP server, with a pinned host key and one credential."""

    channel: Literal["sftp"] = "sftp"
    address: SftpUrl = Field(description="For example sftp://user@host:22/folder; the folder holds out/ and in/")
    host_keys: list[HostKey] = Field(
        min_length=1,
        max_length=4,
        description="Public host keys in OpenSSH format; give two while the server changes its key",
    )
    password: SecretStr | None = Field(None, max_length=1000, description="Stored encrypted; never shown")
    private_key: SecretStr | None = Field(
        None, max_length=10_000, description="OpenSSH or PEM, without a passphrase; stored encrypted; never shown"
    )

    @model_validator(mode="after")
    def _one_credential(self) -> "SftpEndpoint":
        if self.password is not None and self.private_key is not None:
            raise ValueError("give a password or a private key, not both")
        return self


class BorderBuddyEndpoint(StrictModel):
    """Handoffs over HTTPS in our published contract. The installation sets the endpoint."""

    channel: Literal["borderbuddy"] = "borderbuddy"


#: The schemas of all channels.
_AnyEndpoint = QueueEndpoint | WebhookEndpoint | EmailEndpoint | SftpEndpoint | BorderBuddyEndpoint

Endpoint = Annotated[_AnyEndpoint, Field(discriminator="channel")]
Endpoints = Annotated[
    list[Endpoint],
    Field(max_length=5, description="The first is the primary channel: its outcome is the handoff's outcome"),
]

#: The names of the channels.
CHANNELS: Final[tuple[str, ...]] = tuple(
    endpoint.model_fields["channel"].default for endpoint in get_args(_AnyEndpoint)
)


#: In place of a setting: the file of an option holds the password or the private key.
CREDENTIAL: Final = "credential"


def _leave_out_unknown(endpoints: object) -> object:
    if not isinstance(endpoints, list):
        return endpoints
    return [each for each in endpoints if not isinstance(each, dict) or each.get("channel") in CHANNELS]


#: Endpoints of an answer. A reader ignores channels that its version does not know.
KnownEndpoints = Annotated[list[Endpoint], BeforeValidator(_leave_out_unknown)]


@dataclass(frozen=True)
class ChannelOption:
    """An option of `exports partners add`. It gives a setting; the first one of a channel also chooses the channel."""

    flag: str
    help: str
    setting: str = ""
    metavar: str = ""

    @property
    def name(self) -> str:
        """The option as a name in Python."""
        return self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class ChannelKind:
    """What is known of a channel beside its file in pipeline/deliveries/channels."""

    name: str
    title: str
    #: When to choose it.
    when: str
    schema: type[StrictModel]
    #: The kinds of partners that may have it, and why no other may.
    partner_kinds: Sequence[PartnerKind] = get_args(PartnerKind)
    why_not: str = ""
    #: The setting of the installation that it needs, and what the installation lacks without it.
    needs: tuple[str, str] | None = None
    #: How a form names its settings, if their own names do not do, and an example of their values.
    labels: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[ChannelOption] = ()
    #: The default ports of its addresses, by scheme. An address with another scheme must name its port.
    ports: Mapping[str, int] = field(default_factory=dict)
    #: Whether it carries documents. Other channels send links.
    carries_documents: bool = False
    #: Whether people read it, so that each message needs an e-mail, and nobody checks a signature.
    read_by_people: bool = False
    #: Whether each message has a signature.
    signed: bool = False
    #: Whether all partners share one server. Then one partner's failure does not make it unhealthy.
    shared: bool = False
    #: Whether the service reads answers from the partner's server. Its file then defines a `PollableChannel`.
    pollable: bool = False
    #: Whether the server belongs to the partner. What a test finds about other servers concerns only the exporter.
    own_server: bool = False
    #: Whether a connection test sends the partner a message.
    test_reaches_partner: bool = False
    #: The properties or the file of a message, as the portal shows them, with its `id` and `type`.
    properties: Sequence[tuple[str, str]] = ()
    #: Whether the status of an attempt is one of HTTP.
    over_http: bool = False
    #: What the exporter and the partner can do about a failure, by the status of the attempt.
    remedies: Mapping[str, str] = field(default_factory=dict)
    partner_remedies: Mapping[str, str] = field(default_factory=dict)
    #: What the exporter can do about any other failure.
    other_remedy: str = ""


#: In the order of the page on which a person chooses.
CHANNEL_KINDS: Final[Mapping[str, ChannelKind]] = {
    each.name: each
    for each in (
        ChannelKind(
            "webhook",
            "Webhook",
            "The partner runs a web service, which receives signed JSON at an HTTPS address.",
            WebhookEndpoint,
            labels={"address": "Address of the webhook"},
            examples={"address": "https://partner.example/exports"},
            options=(ChannelOption("--webhook", "Deliver signed webhooks to this address.", "address", "URL"),),
            ports={"https": 443},
            signed=True,
            own_server=True,
            test_reaches_partner=True,
            over_http=True,
            remedies={
                "401": "give the endpoint the partner's newest signing secret, and check its clock",
                "403": "give the endpoint the partner's newest signing secret, and check its clock",
                "404": "correct the address of the webhook",
                "405": "make the address accept POST, or correct it",
                "410": "the endpoint is gone and the partner was paused: set another address, then resume the partner",
                "413": "make the endpoint accept bodies of up to 32 MB",
                "415": "make the endpoint accept the content type application/cloudevents+json",
            },
            partner_remedies={
                "401": "verify the exact bytes of the body with your newest secret, and set your clock",
                "403": "verify the exact bytes of the body with your newest secret, and set your clock",
                "404": "serve this address, or ask the exporter to register another",
                "405": "accept POST at this address",
                "410": "your endpoint answered that it is gone, so you were paused: ask the exporter to resume you",
                "413": "accept bodies of up to 32 MB",
                "415": "accept the content type application/cloudevents+json",
            },
        ),
        ChannelKind(
            "email",
            "E-mail",
            "People do the work. They receive a readable message with the documents, and brokers answer by a link.",
            EmailEndpoint,
            ("customs_broker", "operator"),
            why_not="one message for each package or answer",
            needs=("smtp_url", "This installation sends no e-mail yet: its operator sets EXPORTS_SMTP_URL."),
            labels={"addresses": "E-mail addresses"},
            examples={"addresses": "entries@broker.example"},
            options=(
                ChannelOption("--email", "Deliver by e-mail to this address; repeatable.", "addresses", "ADDRESS"),
            ),
            carries_documents=True,
            read_by_people=True,
            shared=True,
            test_reaches_partner=True,
            other_remedy="read the mail server's reply; correct the partner's addresses, or EXPORTS_SMTP_URL",
        ),
        ChannelKind(
            "sftp",
            "SFTP",
            "The partner's software imports files, which the service puts into a folder on the partner's server.",
            SftpEndpoint,
            ("customs_broker", "warehouse", "operator"),
            why_not="nobody reads its files at once",
            labels={"address": "Address of the SFTP server"},
            examples={"address": "sftp://user@host.example:22/folder", "host_keys": "ssh-ed25519 AAAAC3Nza"},
            options=(
                ChannelOption(
                    "--sftp", "Deliver files to this server, such as sftp://user@host/folder.", "address", "URL"
                ),
                ChannelOption(
                    "--host-key",
                    "The SFTP server's public key in OpenSSH format, quoted; repeatable.",
                    "host_keys",
                    "KEY",
                ),
                ChannelOption(
                    "--credential", "File with the password or private key for the SFTP server.", CREDENTIAL, "FILE"
                ),
            ),
            ports={"sftp": 22},
            carries_documents=True,
            pollable=True,
            own_server=True,
            test_reaches_partner=True,
            properties=(("file", "out/{id}/message.json"),),
            remedies={
                "HostKeyNotVerifiable": "ask the partner for its host key; if the new key is theirs, pin it in the partner's channel",
                "PermissionDenied": "ask the partner for user and credential, and set the partner's channel again",
                "NoSftpSession": "ask the partner to check its server's log: chroot folder, subsystem sftp",
                "SFTPNoSpaceOnFilesystem": "ask the partner to free disk space on its server",
                "SFTPQuotaExceeded": "ask the partner to free disk space on its server",
                "SFTPPermissionDenied": "ask the partner for all rights in out/",
                "FileCorrupt": "the server stores other bytes than were sent: inform the partner",
            },
            partner_remedies={
                "HostKeyNotVerifiable": "compare your server's host key with the exporter's copy; give the exporter the new one",
                "PermissionDenied": "check user and credential with the exporter",
                "NoSftpSession": "look into your server's log: chroot folder, subsystem sftp",
                "SFTPNoSpaceOnFilesystem": "free disk space on your server",
                "SFTPQuotaExceeded": "free disk space on your server",
                "SFTPPermissionDenied": "give the exporter's user all rights in out/",
                "FileCorrupt": "your server stores other bytes than were sent: check its disk",
            },
        ),
        ChannelKind(
            "queue",
            "Queue",
            "The partner's software reads your message broker, and binds a queue of its own.",
            QueueEndpoint,
            options=(ChannelOption("--queue", "Deliver to the contract's queues, the default."),),
            properties=(("content_type", "application/cloudevents+json"), ("message_id", "{id}"), ("type", "{type}")),
            remedies={
                "MessageNacked": "a queue of the message broker is full: let its consumer take messages, then resend the message"
            },
        ),
        ChannelKind(
            "borderbuddy",
            "BorderBuddy contract",
            "If this installation is connected to an endpoint of the published BorderBuddy contract.",
            BorderBuddyEndpoint,
            ("customs_broker",),
            needs=(
                "borderbuddy_url",
                "This installation is not connected yet: its operator sets EXPORTS_BORDERBUDDY_URL.",
            ),
            shared=True,
            over_http=True,
            remedies={
                "401": "check EXPORTS_BORDERBUDDY_TOKEN with the endpoint's operator",
                "403": "check EXPORTS_BORDERBUDDY_TOKEN with the endpoint's operator",
                "404": "correct EXPORTS_BORDERBUDDY_URL",
                "410": "the endpoint is gone and the partner was paused: correct EXPORTS_BORDERBUDDY_URL, then resume the partner",
            },
        ),
    )
}


def find_channel(name: str) -> ChannelKind:
    """Return what is known of a channel. Of one that this version does not know, that is only its name."""
    return CHANNEL_KINDS.get(name) or ChannelKind(name, name, "", StrictModel)


def is_for_people(channels: Sequence[Endpoint]) -> bool:
    """Return whether only people read what comes by the channels, so that nobody checks a signature."""
    return bool(channels) and all(CHANNEL_KINDS[each.channel].read_by_people for each in channels)


def format_address(endpoint: Endpoint, separator: str = ", ") -> str:
    """Return where an endpoint is: its first setting, empty if it has none."""
    value = next((value for name, value in endpoint if name != "channel"), "")
    return separator.join(value) if isinstance(value, list) else str(value)


def is_list(setting: FieldInfo) -> bool:
    """Return whether a setting is a list of texts."""
    return "list[" in str(setting.annotation)


def is_credential(setting: FieldInfo) -> bool:
    """Return whether a setting is a password or a private key."""
    return SecretStr.__name__ in str(setting.annotation)
