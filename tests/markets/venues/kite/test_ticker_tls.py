"""The stream over TLS: it says nothing to a server that is not who it should be."""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from markets.venues.kite.ticker import KiteStream
from tests.markets.simulator.kite_client import API_KEY, TOKEN
from tests.waiting import wait_for
from tradingsite import clock


def certificate(name: str, folder: Path) -> Path:
    """Write a key and a certificate that it signed itself, for a host; return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.real() - dt.timedelta(days=1))
        .not_valid_after(clock.real() + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def listening(path: Path) -> Iterator[tuple[int, list[bytes], list[str]]]:
    """Accept TLS connections; yield the port, what clients said, and why handshakes failed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    said: list[bytes] = []
    failed: list[str] = []

    def accept(server: socket.socket) -> None:
        while True:
            try:
                plain, _ = server.accept()
            except OSError:  # the test is over
                return
            try:
                with context.wrap_socket(plain, server_side=True) as client:
                    said.append(client.recv(4_096))
            except OSError as error:  # an alert, or the client cut the connection
                failed.append(repr(error))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1], said, failed
        server.shutdown(socket.SHUT_RDWR)
        thread.join(2)


@contextmanager
def streaming(port: int) -> Iterator[KiteStream]:
    """Stream from localhost, which the certificate should name."""
    root = f"wss://localhost:{port}"
    stream = KiteStream(API_KEY, lambda: TOKEN, {1: "one"}, print, root)
    try:
        yield stream.start()
    finally:
        stream.close()


@pytest.mark.parametrize("name", ["evil.example", "localhost"])
def test_an_unknown_certificate_gets_no_token(name: str, tmp_path: Path) -> None:
    with listening(certificate(name, tmp_path)) as (port, said, failed), streaming(port):
        assert wait_for(lambda: failed or said)
        assert not any(said)


def test_a_trusted_one_must_name_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificate("evil.example", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with listening(path) as (port, said, failed), streaming(port):
        assert wait_for(lambda: failed or said)
        assert not any(said)


def test_a_trusted_server_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificate("localhost", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with listening(path) as (port, said, failed), streaming(port):
        assert wait_for(lambda: said)
        assert TOKEN.encode() in said[0]
        assert failed == []
