"""A partner's signing secrets: both are valid during a rotation, and webhooks carry a signature of each."""

import json
from collections.abc import Callable

import pytest

from pipeline.accounts import partners, secrets
from pipeline.core.errors import InvalidApiKey
from pipeline.core.runtime import Runtime
from pipeline.deliveries.streams import sender
from pipeline.deliveries.submissions.signature import check_signature
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports, hooks
from tests.deliveries.test_connection_tests_outcome import NAME, register_draft
from tests.support import factories
from tests.support.http_endpoint import Endpoint


def list_valid_secrets(runtime: Runtime, partner_id: str = NAME) -> list[str]:
    """Return the partner's valid signing secrets, newest first."""
    with runtime.db.read() as session:
        return secrets.load_valid_secrets(session, runtime.settings, factories.ACCOUNT, partner_id)


def test_both_secrets_are_valid_until_the_older_one_ends(runtime: Runtime, clock: Clock) -> None:
    first = register_draft(runtime)
    made = partners.rotate_secret(runtime, factories.ACCOUNT, NAME, 24)
    assert made.secret.startswith("whsec_")
    assert (made.previous_ends_at - clock.now).total_seconds() == 24 * 3600

    assert list_valid_secrets(runtime) == [made.secret, first]
    clock.pass_seconds(24 * 3600 - 1)
    assert list_valid_secrets(runtime) == [made.secret, first]
    clock.pass_seconds(1)
    assert list_valid_secrets(runtime) == [made.secret]


def test_second_rotation_extends_no_secret_and_zero_overlap_ends_all(runtime: Runtime, clock: Clock) -> None:
    first = register_draft(runtime)
    second = partners.rotate_secret(runtime, factories.ACCOUNT, NAME, 1).secret
    third = partners.rotate_secret(runtime, factories.ACCOUNT, NAME, 168).secret

    assert list_valid_secrets(runtime) == [third, second, first]
    clock.pass_seconds(3600)
    assert list_valid_secrets(runtime) == [third, second]
    fourth = partners.rotate_secret(runtime, factories.ACCOUNT, NAME, 0).secret
    assert list_valid_secrets(runtime) == [fourth]


def test_webhook_is_signed_with_each_valid_secret_newest_first(
    make_runtime: OpenRuntime, clock: Clock, endpoint: Callable[..., Endpoint]
) -> None:
    runtime, hook = make_runtime(), endpoint()
    first = hooks.hand_off_by_webhook(runtime, hook.url, packages=1, batch="one")
    name = first.plan.warehouse.id
    (old,) = list_valid_secrets(runtime, name)
    new = partners.rotate_secret(runtime, factories.ACCOUNT, name, 24).secret
    hooks.deliver(runtime, first)
    (sent,) = hook.requests
    newest, older = sent.headers["webhook-signature"].split()
    for secret, signature in ((new, newest), (old, older)):
        check_signature(sent.body, {**sent.headers, "webhook-signature": signature}, [secret])
    check_signature(sent.body, sent.headers, [old])

    clock.pass_seconds(24 * 3600)
    second = exports.prepare_export(runtime, factories.plan(packages=1, warehouse=name, batch="two"))
    exports.hand_off(runtime, second)
    sender.deliver_stream(runtime, second.export_id, name, "webhook")
    assert len(hook.requests[1].headers["webhook-signature"].split()) == 1
    check_signature(hook.requests[1].body, hook.requests[1].headers, [new])
    with pytest.raises(InvalidApiKey):
        check_signature(hook.requests[1].body, hook.requests[1].headers, [old])
    assert json.loads(hook.requests[1].body)["type"] == "exports.package.recorded.v1"
