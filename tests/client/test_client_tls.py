"""The TLS settings of the clients: certificates are always checked, and loaded once for all clients."""

import ssl

import pytest

from pipeline.client.client import _http_options


def tls_settings(url: str) -> ssl.SSLContext:
    found: ssl.SSLContext = _http_options(url, None)["verify"]
    return found


@pytest.mark.parametrize("url", ["https://api.example", "https://127.0.0.1:8443", "http://api.example"])
def test_clients_share_certificates_and_check_them(url: str) -> None:
    settings = tls_settings(url)
    assert settings is tls_settings(url + "/v1")
    assert (settings.verify_mode, settings.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert settings.cert_store_stats()["x509_ca"] > 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"])
def test_client_of_this_machine_loads_no_certificates_and_trusts_no_server(url: str) -> None:
    settings = tls_settings(url)
    assert (settings.verify_mode, settings.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert settings.cert_store_stats()["x509_ca"] == 0
