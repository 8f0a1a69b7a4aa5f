"""The doctor's warning about a database connection, without a server."""

import pytest

from pipeline.ops.doctor import _unverified_tls_warning


@pytest.mark.parametrize(
    ("host", "given", "named"),
    [
        ("db.example", {}, True),
        ("db.example", {"sslmode": "require"}, True),
        ("db.example", {"sslmode": "prefer", "hostaddr": "10.0.0.1"}, True),
        ("db.example", {"sslmode": "verify-full"}, False),
        ("db.example", {"sslmode": "verify-ca"}, False),
        ("db.example", {"hostaddr": "127.0.0.1"}, False),
        ("localhost", {"hostaddr": "10.0.0.1"}, True),
        ("localhost", {}, False),
        ("::1", {}, False),
        ("/run/postgresql", {}, False),
    ],
)
def test_unverified_tls_warning_for_network_host_without_certificate_check(
    host: str, given: dict[str, str], *, named: bool
) -> None:
    assert ("add sslmode=verify-full" in _unverified_tls_warning(host, given)) == named
