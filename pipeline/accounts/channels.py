"""How a partner is reached: one closed model a channel, told apart by its name."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import Field, SecretStr, StringConstraints, model_validator

from pipeline.exports.schemas.plan import Closed

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


class QueueWay(Closed):
    """The queues of the contract; nothing to set."""

    channel: Literal["queue"] = "queue"


class WebhookWay(Closed):
    """Signed webhooks (Standard Webhooks) to one URL."""

    channel: Literal["webhook"] = "webhook"
    address: Url = Field(description="Where messages are posted")


class EmailWay(Closed):
    """E-mail with the documents attached, or linked where they are large; for customs brokers and operators."""

    channel: Literal["email"] = "email"
    addresses: list[Mailbox] = Field(min_length=1, max_length=10, description="Who gets each message, all on one mail")


class SftpWay(Closed):
    """Files on the partner's SFTP server; its host key is pinned and one credential signs us in."""

    channel: Literal["sftp"] = "sftp"
    address: SftpUrl = Field(description="Such as sftp://user@host:22/folder; the folder holds out/ and in/")
    host_keys: list[HostKey] = Field(
        min_length=1, max_length=4, description="Public host keys in OpenSSH form; two while the server changes its own"
    )
    password: SecretStr | None = Field(None, max_length=1000, description="Kept encrypted; never shown")
    private_key: SecretStr | None = Field(
        None, max_length=10_000, description="OpenSSH or PEM, without a passphrase; kept encrypted; never shown"
    )

    @model_validator(mode="after")
    def _one_credential(self) -> SftpWay:
        if self.password is not None and self.private_key is not None:
            raise ValueError("give a password or a private key, not both")
        return self


class BorderBuddyWay(Closed):
    """Handoffs over HTTPS in our own published contract; the endpoint is the installation's."""

    channel: Literal["borderbuddy"] = "borderbuddy"


#: One row a channel; each is opened by the file of its name in pipeline/deliveries/channels.
_Rows = QueueWay | WebhookWay | EmailWay | SftpWay | BorderBuddyWay

Way = Annotated[_Rows, Field(discriminator="channel")]
Ways = Annotated[
    list[Way], Field(max_length=5, description="The first is the primary one: its outcome is the handoff's")
]

#: The names of the channels.
CHANNELS: Final[tuple[str, ...]] = tuple(way.model_fields["channel"].default for way in get_args(_Rows))
