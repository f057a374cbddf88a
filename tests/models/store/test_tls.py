"""Over TLS: a certificate that does not hold ends a pull, and so does a way back to plain http."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from agentmesh_models import ModelError
from agentmesh_models.store.download import Patience
from agentmesh_models.store.pull import Pull, pull


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of this host that nobody vouches for, with its key."""
    pytest.importorskip("cryptography", reason="cryptography makes the certificate")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "own.pem"
    pem, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(pem, plain, serialization.NoEncryption()) + made.public_bytes(pem))
    return path


@pytest.fixture
def safe(site: Any, certificate: Path) -> Iterator[Any]:
    """The site, spoken to over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    site.scheme = "https"
    yield site


def test_a_certificate_that_nobody_vouches_for_ends_the_pull(
    safe: Any, model: bytes, hasty: Patience
) -> None:
    url = safe.serve("/m.gguf", safe.whole(model))
    with pytest.raises(
        ModelError, match=r"the certificate of 127\.0\.0\.1 does not hold .* SSL_CERT_FILE"
    ) as caught:
        pull(url, Pull(patience=hasty))
    assert caught.value.reason == "download" and safe.log == []


def test_a_certificate_of_ones_own_is_named_in_the_environment(
    safe: Any, model: bytes, hasty: Patience, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = safe.serve("/m.gguf", safe.drop(model, 9000), safe.whole(model))
    assert pull(url, Pull(patience=hasty)).path.read_bytes() == model
    assert safe.asked("range") == [None, "bytes=9000-"]


def test_the_way_from_https_to_http_is_not_followed(
    safe: Any, other: Any, model: bytes, hasty: Patience, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    plain = other.serve("/m.gguf", other.whole(model))
    url = safe.serve("/m.gguf", safe.redirect(plain + "?token=secret"))
    with pytest.raises(ModelError, match=f"from https to {plain}, where anyone can change it") as caught:
        pull(url, Pull(patience=hasty))
    assert "secret" not in str(caught.value) and other.log == []
