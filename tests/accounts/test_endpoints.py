"""Endpoints of a partner: channels that do not fit it, and addresses that are not allowed."""

import pytest

from config.settings import Settings
from pipeline.accounts.channels import CHANNEL_KINDS, CHANNELS, CREDENTIAL, EmailEndpoint, Endpoint, WebhookEndpoint
from pipeline.accounts.endpoints import check_endpoints
from pipeline.core.errors import ValidationFailed


@pytest.mark.parametrize(
    ("kind", "endpoint", "message"),
    [
        (
            "warehouse",
            EmailEndpoint(addresses=["a@b.example"]),
            "channel email is not supported for warehouses (one message for each package or answer); use queue, webhook or sftp",
        ),
        (
            "upstream",
            EmailEndpoint(addresses=["a@b.example"]),
            "channel email is not supported for upstreams (one message for each package or answer); use queue or webhook",
        ),
        (
            "customs_broker",
            WebhookEndpoint.model_construct(address="ftp://host.example/in"),
            "the address has no port, and channel webhook has no default one for it; add the port",
        ),
    ],
)
def test_endpoint_that_does_not_fit_is_refused(kind: str, endpoint: Endpoint, message: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        check_endpoints(Settings(), kind, None, [endpoint], field="/channels")
    assert refused.value.message == message


def test_each_channel_has_a_record_and_options_for_its_required_settings() -> None:
    assert sorted(CHANNEL_KINDS) == sorted(CHANNELS)
    for name, kind in CHANNEL_KINDS.items():
        settings = kind.schema.model_fields
        assert (name, kind.partner_kinds != ()) == (settings["channel"].default, True)
        required = {each for each, info in settings.items() if info.is_required()}
        assert required <= {each.setting for each in kind.options} <= {*settings, CREDENTIAL, ""}
        assert {*kind.labels, *kind.examples} <= settings.keys()
