"""Self-signed certificates and a server base class for simulated partners on loopback."""

import asyncio
import socket
import ssl
import tempfile
import threading
from abc import ABC, abstractmethod
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.network import LOOPBACK
from pipeline.core.clock import utc_now


def create_self_signed(name: str = LOOPBACK) -> tuple[ssl.SSLContext, bytes]:
    """Return the TLS context of a server at an IP address or DNS name, and its certificate in PEM, valid for a day."""
    now = utc_now()
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "exports receiver")])
    is_address = name.replace(".", "").isdigit()
    alternative_name = x509.IPAddress(ip_address(name)) if is_address else x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative_name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        # The ssl module reads a certificate chain and its key only from files.
        path = Path(folder, "receiver.pem")
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + pem
        )
        context.load_cert_chain(path)
    return context, pem


class LoopServer(ABC):
    """A server that listens from its construction, serves inside `with`, and cuts open connections at the end."""

    def __init__(self, name: str, port: int) -> None:
        """Bind to `port`, or to a free one for 0; raise OSError if the port is taken."""
        self._listener = socket.create_server((LOOPBACK, port))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._stop()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=2)

    @abstractmethod
    async def _start(self) -> None:
        """Accept connections on the listener."""

    @abstractmethod
    async def _stop(self) -> None:
        """Accept no more connections."""
