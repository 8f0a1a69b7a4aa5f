"""Certificates that nobody issued, for servers on loopback."""

from __future__ import annotations

import ssl
import tempfile
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.network import LOOPBACK
from pipeline.core.db import utc_now


def self_signed(name: str = LOOPBACK) -> tuple[ssl.SSLContext, bytes]:
    """Return the TLS settings of a server at the IP address or DNS name, and its certificate in PEM, good for a day."""
    now = utc_now()
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "exports receiver")])
    is_address = name.replace(".", "").isdigit()
    shown_for = x509.IPAddress(ip_address(name)) if is_address else x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([shown_for]), critical=False)
        .sign(key, hashes.SHA256())
    )
    shown = certificate.public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        # The library reads a chain and its key from files alone.
        path = Path(folder, "receiver.pem")
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + shown
        )
        context.load_cert_chain(path)
    return context, shown
