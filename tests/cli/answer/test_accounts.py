from __future__ import annotations

import json
from pathlib import Path

import josepy
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.cli.answer.accounts import accounts, only, thumbprint

PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
KEYS = {
    "RSA": josepy.jwk.JWKRSA(key=rsa.generate_private_key(65537, 2048)),
    "EC": josepy.jwk.JWKEC(key=ec.generate_private_key(ec.SECP256R1())),
}


def expected(key: josepy.jwk.JWK) -> str:
    return josepy.b64.b64encode(key.thumbprint()).decode()


def put(folder: Path, server: str, key: josepy.jwk.JWK, name: str = "0123456789abcdef") -> None:
    """Put an account where Certbot has it."""
    account = folder / "accounts" / server.removeprefix("https://") / name
    account.mkdir(parents=True)
    (account / "private_key.json").write_text(key.json_dumps())
    (account / "regr.json").write_text("{}")


@pytest.mark.parametrize("kind", KEYS)
def test_a_keys_thumbprint_is_that_of_josepy(kind: str) -> None:
    assert thumbprint(KEYS[kind].json_dumps()) == expected(KEYS[kind])


def test_the_example_of_the_rfc() -> None:
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbIS"
        "D08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(json.dumps(key)) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"kty": "oct"}', '{"kty": "RSA"}', '{"kty": ["RSA"]}', "null"])
def test_what_is_no_key_has_no_thumbprint(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and ours
        thumbprint(text)


def test_the_only_account_is_taken(tmp_path: Path) -> None:
    put(tmp_path, PRODUCTION, KEYS["RSA"])
    assert only(tmp_path).thumbprint == expected(KEYS["RSA"])
    assert only(tmp_path, PRODUCTION).server == "acme-v02.api.letsencrypt.org/directory"


def test_of_several_accounts_one_must_be_chosen(tmp_path: Path) -> None:
    put(tmp_path, PRODUCTION, KEYS["RSA"])
    put(tmp_path, STAGING, KEYS["EC"])
    with pytest.raises(errors.BadOption) as raised:
        only(tmp_path)
    assert raised.value.cause.startswith("Certbot has 2 accounts below")
    for server, key in ((PRODUCTION, KEYS["RSA"]), (STAGING, KEYS["EC"])):
        assert f"{expected(key)} at {server.removeprefix('https://')}" in raised.value.cause
        assert only(tmp_path, server).thumbprint == expected(key)
    assert "--server" in raised.value.cure


def test_without_an_account_it_is_said_where_none_is(tmp_path: Path) -> None:
    with pytest.raises(errors.BadOption, match="Certbot has no account below"):
        only(tmp_path)
    put(tmp_path, STAGING, KEYS["EC"])
    with pytest.raises(errors.BadOption, match=r"no account below .* for acme-v02\.api\.letsencrypt\.org/directory"):
        only(tmp_path, PRODUCTION)


def test_an_account_under_two_names_is_one(tmp_path: Path) -> None:
    put(tmp_path, PRODUCTION, KEYS["RSA"])
    put(tmp_path, PRODUCTION.replace("v02", "v01"), KEYS["RSA"])
    assert len(accounts(tmp_path)) == 1


def test_a_key_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, PRODUCTION, KEYS["RSA"])
    put(tmp_path, STAGING, KEYS["EC"])
    next(tmp_path.rglob("acme-staging*/**/private_key.json")).write_bytes(b"\xff")
    assert only(tmp_path).thumbprint == expected(KEYS["RSA"])
