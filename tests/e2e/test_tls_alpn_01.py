"""The real certbot and a real authority, which validates by a TLS handshake past a busy server."""

from __future__ import annotations

from lab.certbot import Certbot
from tests.e2e.conftest import Internet
from tests.e2e.test_certbot import NAMES

BY_TLS = ("--preferred-challenges", "tls-alpn-01")


def test_it(everybody: Internet, certbot: Certbot) -> None:
    result = certbot.certonly(*NAMES, options=BY_TLS)
    assert result.returncode == 0, result.stdout
