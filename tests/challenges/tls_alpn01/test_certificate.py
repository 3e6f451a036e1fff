"""The certificate, as RFC 8737, 3, and what CAs check of it, ask for it."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import warnings

import pytest
from cryptography import x509

from certbot_standalone_nfq.challenges.tls_alpn01.certificate import certificate

NOW = datetime.datetime(2030, 1, 2, tzinfo=datetime.timezone.utc)


def made(subject: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate(subject, "token.thumbprint", NOW))


def names(found: x509.Certificate) -> list[x509.GeneralName]:
    return list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def test_it_proves_the_key_authorization_in_a_critical_extension() -> None:
    (extension,) = (each for each in made("example.com").extensions if each.critical)
    assert extension.oid.dotted_string == "1.3.6.1.5.5.7.1.31"
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    assert extension.value.value == b"\x04\x20" + hashlib.sha256(b"token.thumbprint").digest()


@pytest.mark.parametrize("name", ["example.com", "xn--bcher-kva.example"])
def test_it_is_for_exactly_one_name(name: str) -> None:
    assert names(made(name)) == [x509.DNSName(name)]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_it_is_for_exactly_one_address(address: str) -> None:
    assert names(made(address)) == [x509.IPAddress(ipaddress.ip_address(address))]


def test_who_it_is_for_has_issued_it() -> None:
    found = made("example.com")
    assert found.subject == found.issuer


def test_it_is_valid_for_days_whichever_way_a_clock_is_wrong() -> None:
    found, days = made("example.com"), datetime.timedelta(days=7)
    naive = NOW.replace(tzinfo=None)
    # By names that versions of cryptography from before 42 have, too; those after it warn of them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (found.not_valid_before, found.not_valid_after) == (naive - days, naive + days)


def test_no_two_have_the_same_key() -> None:
    keys = {made("example.com").public_key().public_numbers() for _ in range(2)}  # type: ignore[union-attr]
    assert len(keys) == 2


def test_something_that_is_no_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\."):
        made("exämple.com")
